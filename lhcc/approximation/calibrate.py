"""Calibration data, and running models on it: accuracy, differences of outputs."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import InputError

_BATCH = 64
_FEW = 256


@dataclass(frozen=True)
class Calibration:
    """Inputs of a model, first axis the samples, and the labels if there are any."""

    x: NDArray[np.float32]
    labels: NDArray[np.int64] | None

    def few(self, most: int = _FEW) -> NDArray[np.float32]:
        """At most so many samples, evenly spread: 256 are enough for means."""
        return self.x[:: max(-(-len(self.x) // most), 1)]


def read_calibration(data: Any, model: Any) -> Calibration | None:
    """From an array, a pair (x, labels), a mapping or an .npz file with `x` and perhaps `y`; checked by the model."""
    if data is None:
        return None
    labels = None
    if isinstance(data, (str, os.PathLike)):
        path = Path(data)
        if not path.exists():
            raise InputError(f"there is no calibration file '{path}'")
        try:
            loaded = np.load(path)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            hint = "write it with numpy.savez(FILE, x=inputs)"
            raise InputError(f"'{path}' is not an array file of numpy", hint) from error
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
    """All outputs for all samples."""
    source = input_of(model)
    compute = session(model)
    parts = [compute({source.name: batch}) for batch in batches(source, x)]
    return [np.concatenate(arrays)[: len(x)] for arrays in zip(*parts, strict=True)]


def batches(source: Any, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The samples as the model's input takes them; where it fixes their number, the last is repeated to fill up."""
    fixed = source.type.tensor_type.shape.dim[0].dim_value
    size = fixed or _BATCH
    padded = np.concatenate([x, np.repeat(x[-1:], -len(x) % fixed, axis=0)]) if fixed else x
    return [padded[start : start + size] for start in range(0, len(padded), size)]


def session(model: Any) -> Callable[[dict[str, Any]], list[Any]]:
    """From named inputs to all outputs; by ONNX Runtime where it is installed, else by ONNX's reference evaluator."""
    try:
        import onnxruntime
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        evaluator: Any = ReferenceEvaluator(model)
    else:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        # on x86 without VNNI its int8 kernels saturate in 16 bits; this makes it compute exactly
        options.add_session_config_entry("session.x64quantprecision", "1")
        evaluator = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda inputs: list(evaluator.run(None, inputs))


def accuracy(model: Any, data: Calibration) -> float:
    """Share of the labelled samples whose first output is largest at the label."""
    if data.labels is None:
        raise InputError("an accuracy needs labels", "put them into the calibration data as 'y'")
    return float((run(model, data.x)[0].reshape(len(data.x), -1).argmax(axis=1) == data.labels).mean())


def output_error(model: Any, reference: NDArray[np.float32], x: NDArray[np.float32]) -> float:
    """Mean squared difference of the first output from a reference, relative to the reference."""
    difference = run(model, x)[0] - reference
    return float((difference**2).sum() / max(float((reference**2).sum()), 1e-30))
