"""Writes the networks and single layers that the benchmarks measure: ONNX, batch 1, float32, batch norm folded.

Recipe, so that figures can be compared elsewhere.  One generator `default_rng(seed)` draws, convolution after
convolution, He-normal weights (scaled for the density kept) and then a bias of deviation 0.05; a second
`default_rng(seed)` draws the zero pattern (`masks.lhc`).  The first convolution and depthwise ones stay dense.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks import masks

CACHE = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
Activation = Literal["relu", "relu6"]


@dataclass(frozen=True)
class Recipe:
    """What the weights of a network look like."""

    density: float = 1.0
    group_in: int = 32
    group_out: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Feature:
    """A square feature map inside a network under construction."""

    name: str
    channels: int
    size: int


@dataclass(frozen=True)
class Conv:
    """One convolution of a written network, for counting."""

    name: str
    inputs: int
    outputs: int
    kernel: int
    stride: int
    groups: int
    size: int
    size_out: int
    kept: int

    @property
    def weights(self) -> int:
        return self.outputs * (self.inputs // self.groups) * self.kernel**2

    @property
    def macs(self) -> int:
        return self.weights * self.size_out**2

    @property
    def macs_kept(self) -> int:
        return self.kept * self.size_out**2


class NetworkWriter:
    """Appends layers to an ONNX graph and remembers what they cost."""

    def __init__(self, name: str, channels: int, size: int, recipe: Recipe) -> None:
        self.name, self.recipe = name, recipe
        self.input = Feature("input", channels, size)
        self.convs: list[Conv] = []
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._weights_rng = np.random.default_rng(recipe.seed)
        self._mask_rng = np.random.default_rng(recipe.seed)

    def conv(
        self,
        name: str,
        x: Feature,
        outputs: int,
        kernel: int,
        stride: int = 1,
        *,
        groups: int = 1,
        activation: Activation | None = "relu",
        add: Feature | None = None,
        gain: float = 2.0,
        mask: masks.Mask | None = None,
    ) -> Feature:
        """A "same"-padded convolution, then the residual `add`, then the activation.

        `mask` overrides the recipe's zero pattern.
        """
        recipe, shape = self.recipe, (outputs, x.channels // groups, kernel, kernel)
        masked = recipe.density < 1 and groups == 1 and bool(self.convs)
        weight = self._weights_rng.standard_normal(shape).astype(np.float32)
        bias = (self._weights_rng.standard_normal(outputs) * 0.05).astype(np.float32)
        if mask is None and masked:
            mask = masks.lhc(self._mask_rng, shape, recipe.density, recipe.group_in, recipe.group_out)
            density = recipe.density
        else:
            density = 1.0 if mask is None else float(mask.mean())
        weight *= np.float32(np.sqrt(gain / (shape[1] * kernel * kernel * density)))
        if mask is not None:
            weight *= mask
        y = Feature(name, outputs, (x.size + 2 * (kernel // 2) - kernel) // stride + 1)
        constants = [self._constant(f"{name}.weight", weight), self._constant(f"{name}.bias", bias)]
        geometry = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
        self._node("Conv", name, [x.name, *constants], y.name, **geometry)
        kept = int(np.count_nonzero(weight))
        self.convs.append(Conv(name, x.channels, outputs, kernel, stride, groups, x.size, y.size, kept))
        if add is not None:
            y = Feature(f"{name}.add", y.channels, y.size)
            self._node("Add", y.name, [name, add.name], y.name)
        return y if activation is None else self._activation(y, activation)

    def max_pool(self, name: str, x: Feature, kernel: int, stride: int, pad: int = 0) -> Feature:
        y = Feature(name, x.channels, (x.size + 2 * pad - kernel) // stride + 1)
        self._node("MaxPool", name, [x.name], name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        return y

    def classifier(self, x: Feature, classes: int) -> None:
        """Global average pooling and one fully connected layer."""
        weight = (self._weights_rng.standard_normal((classes, x.channels)) / np.sqrt(x.channels)).astype(np.float32)
        constants = [self._constant("fc.weight", weight), self._constant("fc.bias", np.zeros(classes, np.float32))]
        self._node("GlobalAveragePool", "pool", [x.name], "pool")
        self._node("Flatten", "flatten", ["pool"], "flatten", axis=1)
        self._node("Gemm", "fc", ["flatten", *constants], "fc", transB=1)

    def model(self) -> Any:
        """The finished, checked ModelProto; the last layer's result becomes `output`."""
        import onnx
        from onnx import TensorProto, helper

        self._nodes[-1].output[0] = "output"
        shape = [1, self.input.channels, self.input.size, self.input.size]
        graph = helper.make_graph(
            self._nodes,
            self.name,
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
            self._initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        del model.graph.value_info[:]
        onnx.checker.check_model(model, full_check=True)
        return model

    def _activation(self, x: Feature, kind: Activation) -> Feature:
        y = Feature(f"{x.name}.{kind}", x.channels, x.size)
        if kind == "relu":
            self._node("Relu", y.name, [x.name], y.name)
        else:
            bounds = [self._constant(f"{y.name}.{end}", np.float32(value)) for end, value in (("low", 0), ("high", 6))]
            self._node("Clip", y.name, [x.name, *bounds], y.name)
        return y

    def _node(self, op: str, name: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self._nodes.append(helper.make_node(op, inputs, [output], name, **attributes))

    def _constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self._initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def vgg16_cifar(recipe: Recipe) -> NetworkWriter:
    """VGG16 for 32x32 images, without batch norm and with one fully connected layer."""
    net = NetworkWriter("vgg16-cifar", 3, 32, recipe)
    x = net.input
    for stage, (width, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1):
        for index in range(1, depth + 1):
            x = net.conv(f"conv{stage}_{index}", x, width, 3)
        if stage < 5:
            x = net.max_pool(f"pool{stage}", x, 2, 2)
    net.classifier(x, 10)
    return net


def _resnet(
    name: str, recipe: Recipe, depths: tuple[int, ...], *, size: int, classes: int, bottleneck: bool = False
) -> NetworkWriter:
    net = NetworkWriter(name, 3, size, recipe)
    if size < 64:
        x = net.conv("stem", net.input, 64, 3)
    else:
        x = net.max_pool("stem.pool", net.conv("stem", net.input, 64, 7, 2), 3, 2, 1)
    for stage, depth in enumerate(depths):
        width = 64 << stage
        outputs = width * 4 if bottleneck else width
        for block in range(depth):
            prefix, stride = f"layer{stage + 1}.{block}", 2 if block == 0 and stage > 0 else 1
            if bottleneck:
                y = net.conv(f"{prefix}.conv1", x, width, 1)
                y = net.conv(f"{prefix}.conv2", y, width, 3, stride)
            else:
                y = net.conv(f"{prefix}.conv1", x, width, 3, stride)
            if stride != 1 or x.channels != outputs:
                x = net.conv(f"{prefix}.shortcut", x, outputs, 1, stride, activation=None, gain=0.5)
            last, kernel = ("conv3", 1) if bottleneck else ("conv2", 3)
            x = net.conv(f"{prefix}.{last}", y, outputs, kernel, add=x, gain=0.5)
    net.classifier(x, classes)
    return net


def resnet18_cifar(recipe: Recipe) -> NetworkWriter:
    """ResNet-18 with a 3x3 stem for 32x32 images."""
    return _resnet("resnet18-cifar", recipe, (2, 2, 2, 2), size=32, classes=10)


def resnet34(recipe: Recipe) -> NetworkWriter:
    """ResNet-34 for 224x224 images."""
    return _resnet("resnet34", recipe, (3, 4, 6, 3), size=224, classes=1000)


def resnet50(recipe: Recipe) -> NetworkWriter:
    """ResNet-50 for 224x224 images, the stride in the 3x3 convolutions."""
    return _resnet("resnet50", recipe, (3, 4, 6, 3), size=224, classes=1000, bottleneck=True)


def mobilenetv2(recipe: Recipe) -> NetworkWriter:
    """MobileNetV2, width 1.0, for 224x224 images."""
    net = NetworkWriter("mobilenetv2", 3, 224, recipe)
    x = net.conv("stem", net.input, 32, 3, 2, activation="relu6")
    plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    index = 0
    for expansion, outputs, repeats, first_stride in plan:
        for repeat in range(repeats):
            prefix, stride = f"block{index}", first_stride if repeat == 0 else 1
            y, index = x, index + 1
            if expansion > 1:
                y = net.conv(f"{prefix}.expand", y, x.channels * expansion, 1, activation="relu6")
            y = net.conv(f"{prefix}.depthwise", y, y.channels, 3, stride, groups=y.channels, activation="relu6")
            residual = x if stride == 1 and x.channels == outputs else None
            x = net.conv(f"{prefix}.project", y, outputs, 1, activation=None, add=residual, gain=0.5)
    net.classifier(net.conv("last", x, 1280, 1, activation="relu6"), 1000)
    return net


NETWORKS: dict[str, Callable[[Recipe], NetworkWriter]] = {
    "vgg16-cifar": vgg16_cifar,
    "resnet18-cifar": resnet18_cifar,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
}


@dataclass(frozen=True)
class LayerShape:
    """A single convolution: channels, square kernel and image."""

    inputs: int
    outputs: int
    kernel: int
    size: int
    stride: int = 1

    @property
    def weight_shape(self) -> masks.Shape:
        return (self.outputs, self.inputs, self.kernel, self.kernel)

    def __str__(self) -> str:
        stride = f"s{self.stride}" if self.stride != 1 else ""
        return f"{self.inputs}x{self.outputs}-k{self.kernel}{stride}-{self.size}"


def layer(shape: LayerShape, mask: masks.Mask | None = None, seed: int = 0) -> NetworkWriter:
    """One convolution with its ReLU; without a mask it is dense."""
    return stack(shape, [mask], seed)


def stack(shape: LayerShape, layer_masks: Sequence[masks.Mask | None], seed: int = 0) -> NetworkWriter:
    """Convolutions of one shape in a row, each with its ReLU."""
    net = NetworkWriter(str(shape), shape.inputs, shape.size, Recipe(seed=seed))
    x = net.input
    for index, mask in enumerate(layer_masks, start=1):
        x = net.conv(f"conv{index}", x, shape.outputs, shape.kernel, shape.stride, mask=mask)
    return net


def write(net: NetworkWriter, path: Path) -> Path:
    """Writes the network to `path`, completely or not at all."""
    import onnx

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    onnx.save(net.model(), str(unfinished))
    unfinished.replace(path)
    return path


def network_file(name: str, density: float = 1.0, folder: Path = CACHE, seed: int = 0) -> Path:
    """Path of a network, written on first use."""
    tag = "" if density == 1 else f"-d{density:g}"
    path = folder / f"{name}{tag}{'' if seed == 0 else f'-seed{seed}'}.onnx"
    return path if path.exists() else write(NETWORKS[name](Recipe(density=density, seed=seed)), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", default=",".join(NETWORKS))
    parser.add_argument("--densities", default="1.0,0.5,0.2,0.1")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.models.split(","):
        for density in map(float, args.densities.split(",")):
            net = NETWORKS[name](Recipe(density=density, seed=args.seed))
            path = write(net, args.folder / f"{name}-d{density:g}.onnx")
            macs, kept = (sum(getattr(conv, what) for conv in net.convs) / 1e6 for what in ("macs", "macs_kept"))
            print(f"{path}: {len(net.convs)} convolutions, {macs:.1f} million multiply-adds, {kept:.1f} million kept")


if __name__ == "__main__":
    main()
