"""Reads the weight files of the authors' LHC training code (Keras .h5) and builds the network they belong to as ONNX.

Such a file holds arrays and no graph, so the architecture is named by the user.  Facts about the files, from the code
at github.com/Genera1Z/LearnableHeterogeneousConvolution:
- an LHC layer has `_W_` (kernel, HWIO, stored unmasked), `effect` and `_b_`, in an order that depends on the stage of
  training, so they are told apart by name; ordinary layers have `kernel` and `bias`;
- free effects are (kh, kw, input blocks, output blocks), rigid ones (15, input blocks, output blocks);
- the networks take (image - mean of the data set) / 255 and end in a softmax.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import ModelError, ToolMissing
from lhcc.inspection.shapes import RIGID_SHAPES, free_mask, rigid_mask

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]
Layer = Mapping[str, Array]  # the arrays of one layer, by the last part of their names


@dataclass(frozen=True)
class Convolution:
    """3 x 3, stride 1, same size, then ReLU."""

    name: str
    outputs: int
    shaped: bool = True  # an LHC layer; the first convolution is an ordinary one


@dataclass(frozen=True)
class Pool:
    """2 x 2 maximum."""

    name: str


@dataclass(frozen=True)
class Architecture:
    """Convolutions and pools in order, then global average pooling, a dense layer and a softmax.  No batch norm."""

    image: tuple[int, int, int]  # channels, height, width
    body: tuple[Convolution | Pool, ...]
    head: str = "predictions"


def _vgg(convolutions: tuple[int, ...]) -> Architecture:
    """Five blocks of so many convolutions, named as in Keras; the widths are those of VGG."""
    body: list[Convolution | Pool] = []
    for block, (count, width) in enumerate(zip(convolutions, (64, 128, 256, 512, 512), strict=True), start=1):
        body += [Convolution(f"block{block}_conv{n}", width, (block, n) != (1, 1)) for n in range(1, count + 1)]
        body.append(Pool(f"block{block}_pool"))
    return Architecture((3, 32, 32), tuple(body))


# vgg16-cifar is the network that the authors published.  vgg19-cifar follows the same rule and the same Keras names.
ARCHITECTURES: dict[str, Architecture] = {
    "vgg16-cifar": _vgg((2, 2, 3, 3, 3)),
    "vgg19-cifar": _vgg((2, 2, 4, 4, 4)),
}


def import_lhc(
    path: str | Path, arch: str = "vgg16-cifar", group_in: int = 32, group_out: int = 16, batch: int = 1
) -> onnx.ModelProto:
    """The trained network as ONNX, with the masks multiplied into the weights.

    The file does not say how many channels share a shape: `group_in` and `group_out` are those of the training.
    """
    if arch not in ARCHITECTURES:
        raise ModelError(f"unknown architecture '{arch}'", f"known: {', '.join(ARCHITECTURES)}")
    checkpoint = _Checkpoint(Path(path), _read_layers(Path(path)))
    return _build(ARCHITECTURES[arch], checkpoint, group_in, group_out, batch, arch)


# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class _Checkpoint:
    """The layers of a file; what is asked for and missing or malformed is an error that names file and layer."""

    path: Path
    layers: Mapping[str, Layer]

    def array(self, layer: str, part: str, hint: str | None = None) -> Array:
        if layer not in self.layers:
            known = ", ".join(self.layers) or "none"
            raise ModelError(f"'{self.path}' has no layer '{layer}'", f"its layers: {known}; is --arch right?")
        matches = [array for name, array in self.layers[layer].items() if part in name]
        if len(matches) != 1:
            present = ", ".join(self.layers[layer]) or "nothing"
            found = "no" if not matches else f"{len(matches)} variables called"
            raise ModelError(f"'{self.path}': layer '{layer}' has {found} '{part}', it has {present}", hint)
        if not np.isfinite(matches[0]).all():
            count = int((~np.isfinite(matches[0])).sum())
            hint = "the training diverged; take an earlier checkpoint"
            raise ModelError(f"'{self.path}': {count} values of '{layer}/{part}' are NaN or infinite", hint)
        return matches[0]

    def shaped_as(self, layer: str, part: str, *shape: int) -> Array:
        array = self.array(layer, part)
        if array.shape != shape:
            hint = "is --arch right?"
            raise ModelError(f"'{self.path}': '{layer}/{part}' is {array.shape}, expected {shape}", hint)
        return array


def _read_layers(path: Path) -> dict[str, dict[str, Array]]:
    """All layers with weights of a Keras weights file, or of the weights in a whole-model file."""
    try:
        import h5py
    except ImportError as missing:
        raise ToolMissing("reading .h5 files needs h5py, which is not installed", "pip install h5py") from missing
    if not path.exists():
        raise ModelError(f"there is no file '{path}'")
    try:
        with h5py.File(path, "r") as file:
            root = file["model_weights"] if "layer_names" not in file.attrs and "model_weights" in file else file
            layers = {name: _read_arrays(root[name]) for name in _names(root, "layer_names")}
    except (OSError, KeyError) as error:
        raise ModelError(f"'{path}' cannot be read as a Keras .h5 file: {error}", "is it complete?") from error
    if not layers:
        hint = "expected what model.save_weights('weights.h5') of Keras 2 writes; Keras 3 has another layout"
        raise ModelError(f"'{path}' lists no layers, so it is not a Keras weights file", hint)
    return {name: arrays for name, arrays in layers.items() if arrays}


def _read_arrays(group: Any) -> dict[str, Array]:
    return {name: np.asarray(group[name], np.float32) for name in _names(group, "weight_names")}


def _names(group: Any, attribute: str) -> Iterator[str]:
    """A list of names in an attribute, or, where it is too long for HDF5, in attributes numbered from 0."""
    parts = [attribute] if attribute in group.attrs else []
    while not parts or parts[0] != attribute:
        numbered = f"{attribute}{len(parts)}"
        if numbered not in group.attrs:
            break
        parts.append(numbered)
    for part in parts:
        for name in group.attrs[part]:
            yield name.decode() if isinstance(name, bytes) else str(name)


# ---------------------------------------------------------------- building


def _build(
    architecture: Architecture, checkpoint: _Checkpoint, group_in: int, group_out: int, batch: int, name: str
) -> onnx.ModelProto:
    import onnx
    from onnx import helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(label: str, array: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(array), label))
        return label

    def node(op: str, label: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, list(inputs), [f"{label}_out"], name=label, **attributes))
        return f"{label}_out"

    channels, height, width = architecture.image
    x = "image"
    for step in architecture.body:
        if isinstance(step, Pool):
            x = node("MaxPool", step.name, x, kernel_shape=[2, 2], strides=[2, 2])
            continue
        weight, bias = _parameters(checkpoint, step, channels, group_in, group_out)
        weights = (constant(f"{step.name}.weight", weight), constant(f"{step.name}.bias", bias))
        x = node("Conv", step.name, x, *weights, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        x = node("Relu", f"{step.name}_relu", x)
        channels = step.outputs
    x = node("Flatten", "flatten", node("GlobalAveragePool", "average", x))
    kernel = checkpoint.array(architecture.head, "kernel")
    classes = kernel.shape[-1]
    kernel = checkpoint.shaped_as(architecture.head, "kernel", channels, classes)
    bias = checkpoint.shaped_as(architecture.head, "bias", classes)
    head = architecture.head
    x = node("Gemm", head, x, constant(f"{head}.weight", kernel), constant(f"{head}.bias", bias))
    nodes.append(helper.make_node("Softmax", [x], ["probabilities"], name="softmax", axis=1))
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [batch, *architecture.image])
    result = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, [batch, classes])
    graph = helper.make_graph(nodes, name, [image], [result], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="lhcc", ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _parameters(
    checkpoint: _Checkpoint, step: Convolution, inputs: int, group_in: int, group_out: int
) -> tuple[Array, Array]:
    """Masked weight (outputs, inputs, 3, 3) and bias of one convolution."""
    kernel_name, bias_name = ("_W_", "_b_") if step.shaped else ("kernel", "bias")
    if step.shaped:
        hint = "without its effects a kernel cannot be masked; a network of ordinary convolutions is no LHC checkpoint"
        effects = checkpoint.array(step.name, "effect", hint)
    kernel = checkpoint.shaped_as(step.name, kernel_name, 3, 3, inputs, step.outputs).transpose(3, 2, 0, 1)
    bias = checkpoint.shaped_as(step.name, bias_name, step.outputs)
    if not step.shaped:
        return kernel, bias
    blocks = (math.ceil(inputs / group_in), math.ceil(step.outputs / group_out))
    geometry = (group_in, group_out, inputs, step.outputs)
    if effects.shape == (3, 3, *blocks):
        mask = free_mask(effects.transpose(3, 2, 0, 1), *geometry)
    elif effects.shape == (len(RIGID_SHAPES), *blocks):
        mask = rigid_mask(effects.transpose(0, 2, 1), *geometry)
    else:
        found = f"'{checkpoint.path}': '{step.name}/effect' is {effects.shape}"
        hint = f"expected {(3, 3, *blocks)} or {(15, *blocks)} for blocks of {group_in} x {group_out} channels"
        raise ModelError(found, f"{hint}; give the block size of the training with group_in and group_out")
    return np.where(mask == 0, np.float32(0), kernel * mask), bias
