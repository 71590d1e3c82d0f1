"""Runs models on calibration data: accuracy, sensitivities, and biases that take back what was shifted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.approximation.graph import Graph, Layer
from lhcc.errors import InputError

_BATCH = 64
_FEW = 256


@dataclass(frozen=True)
class Calibration:
    """Inputs of a model, first axis the samples, and the labels if there are any."""

    x: NDArray[np.float32]
    labels: NDArray[np.int64] | None

    def few(self) -> NDArray[np.float32]:
        """At most 256 samples, evenly spread: enough for means."""
        return self.x[:: max(-(-len(self.x) // _FEW), 1)]


def read_calibration(data: Any, model: Any) -> Calibration | None:
    """From an array, a pair (x, labels), a mapping or an .npz file with `x` and perhaps `y`; checked by the model."""
    if data is None:
        return None
    labels = None
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        if not path.exists():
            raise InputError(f"there is no calibration file '{path}'")
        loaded = np.load(path)
        data = {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else loaded
    if isinstance(data, Mapping):
        if "x" not in data:
            raise InputError(
                f"the calibration data holds {', '.join(data) or 'nothing'}; it needs 'x', and 'y' for labels"
            )
        data, labels = data["x"], data.get("y")
    elif isinstance(data, tuple):
        data, labels = data
    x = np.asarray(data, dtype=np.float32)
    wanted = [d.dim_value for d in input_of(model).type.tensor_type.shape.dim]
    if x.ndim != len(wanted) or any(w and w != have for w, have in zip(wanted[1:], x.shape[1:], strict=True)):
        shown = ", ".join(["N", *(str(w or "?") for w in wanted[1:])])
        raise InputError(f"the calibration data has shape {x.shape}; the model takes ({shown})")
    if labels is not None:
        labels = np.asarray(labels).astype(np.int64).ravel()
        if len(labels) != len(x):
            raise InputError(f"{len(x)} calibration inputs come with {len(labels)} labels")
    return Calibration(x, labels)


def synthetic(model: Any, samples: int = 48) -> Calibration:
    """Seeded normal inputs where nothing better is known: images of one value, of few large squares, ... , of noise.

    Filters answer to smooth images with sums of their weights, to noise with the root of their squares; a network's
    ranges depend on both."""
    rng = np.random.default_rng(0)
    shape = [d.dim_value or 1 for d in input_of(model).type.tensor_type.shape.dim][1:]
    x = rng.standard_normal((samples, *shape)).astype(np.float32)
    if len(shape) == 3:
        for k in range(samples):
            step = 1 << k % max(1, max(shape[1:]).bit_length() + 1)
            rows, columns = (np.arange(size) // step for size in shape[1:])
            x[k] = x[k][:, rows[:, None], columns[None, :]]
    return Calibration(x, None)


def input_of(model: Any) -> Any:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise InputError(f"calibration needs a model with one input, not {len(inputs)}")
    return inputs[0]


def run(model: Any, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """All outputs for all samples; by ONNX Runtime where it is installed, else by ONNX's reference evaluator."""
    source = input_of(model)
    batch = source.type.tensor_type.shape.dim[0].dim_value or _BATCH
    padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % batch, axis=0)])
    parts = [list(outputs) for outputs in _outputs(model, source.name, padded, batch)]
    return [np.concatenate(arrays)[: len(x)] for arrays in zip(*parts, strict=True)]


def _outputs(model: Any, name: str, x: NDArray[np.float32], batch: int) -> Iterator[list[Any]]:
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        session: Any = ReferenceEvaluator(model)
    else:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        # on x86 without VNNI its int8 kernels saturate in 16 bits; this makes it compute exactly
        options.add_session_config_entry("session.x64quantprecision", "1")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for start in range(0, len(x), batch):
        yield session.run(None, {name: x[start : start + batch]})


def accuracy(model: Any, data: Calibration) -> float:
    """Share of the labelled samples whose first output is largest at the label."""
    if data.labels is None:
        raise InputError("an accuracy needs labels", "put them into the calibration data as 'y'")
    return float((run(model, data.x)[0].reshape(len(data.x), -1).argmax(axis=1) == data.labels).mean())


def output_error(model: Any, reference: NDArray[np.float32], x: NDArray[np.float32]) -> float:
    """Mean squared difference of the first output from a reference, relative to the reference."""
    difference = run(model, x)[0] - reference
    return float((difference**2).sum() / max(float((reference**2).sum()), 1e-30))


def round_bias(bias: NDArray[Any], bits: int) -> NDArray[np.float64]:
    """Biases as integers of `bits` bits, sign included, on one power of two per layer."""
    largest = float(np.abs(bias).max(initial=0))
    if largest == 0:
        return np.zeros(bias.shape)
    unit = 2.0 ** (int(np.frexp(largest)[1]) - (bits - 1))
    return np.clip(np.rint(bias / unit), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * unit


def correct(
    before: Graph, after: Graph, layers: list[Layer], data: Calibration, bias_bits: int, rescale: bool
) -> list[tuple[str, str]]:
    """Layer by layer, gives every channel the mean it had before; with `rescale`, the deviation too.

    So the batch norms that were folded into the weights are re-estimated. Returns the layers left alone, and why.
    """
    x = data.few()
    names = [layer.node.output[0] for layer in layers]
    wanted = dict(zip(names, _moments(before, layers, x), strict=True))
    left: list[tuple[str, str]] = []
    for layer in layers:
        if layer.op == "MatMul":
            left.append((layer.name, "a MatMul has no bias to correct"))
            continue
        (mean, deviation), (was_mean, was_deviation) = _moments(after, [layer], x)[0], wanted[layer.node.output[0]]
        bias = after.bias_of(layer)
        value = after.constants[bias].astype(np.float64)
        if rescale:
            gain = np.where(deviation > 0, was_deviation / np.maximum(deviation, 1e-30), 1.0).clip(0.5, 2.0)
            after.set_filters(layer, after.filters(layer) * gain[:, None, None])
            mean = (mean - value) * gain + value
        after.set_array(bias, round_bias(value + was_mean - mean, bias_bits))
    return left


def _moments(graph: Graph, layers: list[Layer], x: NDArray[np.float32]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Per layer, the mean and standard deviation of each output channel."""
    names = [layer.node.output[0] for layer in layers]
    shown = graph.outputs + [name for name in names if name not in graph.outputs]
    outputs = dict(zip(shown, run(graph.finished(shown[len(graph.outputs) :]), x), strict=True))
    moments = []
    for layer in layers:
        values = outputs[layer.node.output[0]]
        axis = 1 if layer.op.startswith("Conv") else values.ndim - 1
        rest = tuple(k for k in range(values.ndim) if k != axis)
        moments.append((values.mean(axis=rest, dtype=np.float64), values.std(axis=rest, dtype=np.float64)))
    return moments
