"""Weight files in the form that the authors' training code writes, against a reference in PyTorch and HWIO arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

h5py = pytest.importorskip("h5py")
onnx = pytest.importorskip("onnx")

from lhcc.errors import ModelError, ToolMissing  # noqa: E402
from lhcc.frontend.lhc_checkpoint import ARCHITECTURES, Architecture, Convolution, Pool, import_lhc  # noqa: E402
from lhcc.inspection import Kind, recognise  # noqa: E402
from lhcc.inspection.shapes import RIGID_SHAPES  # noqa: E402

# A chain like VGG16, small enough for a test: 3 -> 8 -> 12 -> 10 channels, shapes shared by 8 x 4 channels.
SMALL = Architecture(
    (3, 8, 8),
    (Convolution("first", 8, shaped=False), Convolution("second", 12), Pool("pool"), Convolution("third", 10)),
)
GROUPS = {"group_in": 8, "group_out": 4}

Weights = dict[str, dict[str, NDArray[Any]]]


@pytest.fixture(autouse=True)
def small_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "small", SMALL)


def random_weights(shapes: str, fine_stage: bool = False, seed: int = 0) -> Weights:
    """Variables in the order of creation; in the fine stage the effects, no longer trainable, come last."""
    random = np.random.default_rng(seed)
    weights: Weights = {"first": {"kernel": random.standard_normal((3, 3, 3, 8)), "bias": random.standard_normal(8)}}
    for name, inputs, outputs in (("second", 8, 12), ("third", 12, 10)):
        blocks = (-(-inputs // 8), -(-outputs // 4))
        effect = random.standard_normal((3, 3, *blocks) if shapes == "free" else (15, *blocks))
        kernel, bias = random.standard_normal((3, 3, inputs, outputs)), random.standard_normal(outputs)
        weights[name] = {"_W_": kernel, "_b_": bias} if fine_stage else {"_W_": kernel, "effect": effect, "_b_": bias}
        if fine_stage:
            weights[name]["effect"] = effect
    weights["predictions"] = {"kernel": random.standard_normal((10, 7)), "bias": random.standard_normal(7)}
    return weights


def write(path: Path, weights: Weights, inside: str | None = None, split_names: bool = False) -> Path:
    """Keras' layout: names in attributes, arrays at `layer/layer/variable:0`; layers without weights are listed too."""
    with h5py.File(path, "w") as file:
        root = file.create_group(inside) if inside else file
        names = [*weights, "pool"]
        if split_names:
            root.attrs["layer_names0"] = [name.encode() for name in names[:2]]
            root.attrs["layer_names1"] = [name.encode() for name in names[2:]]
        else:
            root.attrs["layer_names"] = [name.encode() for name in names]
        for name in names:
            group = root.create_group(name)
            arrays = {f"{name}/{variable}:0": array for variable, array in weights.get(name, {}).items()}
            group.attrs["weight_names"] = [variable.encode() for variable in arrays]
            for variable, array in arrays.items():
                group.create_dataset(variable, data=array.astype(np.float32))
    return path


def block_mask(effect: NDArray[Any], inputs: int, outputs: int) -> NDArray[Any]:
    """HWIO mask, tap by tap and channel by channel as the method defines it."""
    mask = np.zeros((3, 3, inputs, outputs))
    for i in range(inputs):
        for o in range(outputs):
            own = effect[..., i // 8, o // 4]
            if own.ndim == 2:
                mask[:, :, i, o] = own > 0
            else:
                mask[:, :, i, o] = sum(RIGID_SHAPES[s] for s in range(15) if own[s] == own.max())
    return mask


def reference(weights: Weights, image: NDArray[Any]) -> NDArray[Any]:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = torch.from_numpy(image)
    for name in ("first", "second", "third"):
        layer = weights[name]
        kernel = layer.get("kernel")
        if kernel is None:
            inputs, outputs = layer["_W_"].shape[2:]
            kernel = layer["_W_"] * block_mask(layer["effect"], inputs, outputs)
        bias = layer["bias"] if "bias" in layer else layer["_b_"]
        kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1), np.float32)
        x = functional.relu(functional.conv2d(x, torch.from_numpy(kernel), torch.from_numpy(bias).float(), padding=1))
        x = functional.max_pool2d(x, 2) if name == "second" else x
    head = weights["predictions"]
    scores = x.mean(dim=(2, 3)).numpy() @ head["kernel"] + head["bias"]
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: NDArray[Any] = exponents / exponents.sum(axis=1, keepdims=True)
    return result


def run(model: Any, image: NDArray[Any]) -> NDArray[Any]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    result: NDArray[Any] = session.run(None, {"image": image})[0]
    return result


@pytest.mark.torch
@pytest.mark.parametrize("shapes", ["free", "rigid"])
@pytest.mark.parametrize("fine_stage", [False, True])
@pytest.mark.parametrize("inside", [None, "model_weights"])
def test_the_network_is_the_one_that_was_trained(
    tmp_path: Path, shapes: str, fine_stage: bool, inside: str | None
) -> None:
    weights = random_weights(shapes, fine_stage)
    model = import_lhc(write(tmp_path / "w.h5", weights, inside), "small", batch=2, **GROUPS)
    image = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(model, image), reference(weights, image), rtol=1e-4, atol=1e-6)


@pytest.mark.torch
def test_a_rigid_tie_keeps_every_tied_shape(tmp_path: Path) -> None:
    weights = random_weights("rigid")
    weights["second"]["effect"][2] = weights["second"]["effect"][14] = 9.0  # the middle row and the whole kernel
    model = import_lhc(write(tmp_path / "w.h5", weights), "small", **GROUPS)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    expected = weights["second"]["_W_"].astype(np.float32).transpose(3, 2, 0, 1) * np.array([[1], [2], [1]], np.float32)
    assert np.array_equal(stored["second.weight"], expected)
    image = np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(model, image), reference(weights, image), rtol=1e-4, atol=1e-6)


def test_masked_weights_are_true_zeros_and_recognised(tmp_path: Path) -> None:
    model = import_lhc(write(tmp_path / "w.h5", random_weights("free"), split_names=True), "small", **GROUPS)
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert recognise(stored["first.weight"]).kind == Kind.DENSE
    found = recognise(stored["third.weight"])
    assert (found.kind, found.block) == (Kind.LHC_FREE, (8, 4))
    assert not np.signbit(stored["third.weight"][stored["third.weight"] == 0]).any()
    assert [node.name for node in model.graph.node if node.op_type == "Conv"] == ["first", "second", "third"]


def test_architectures() -> None:
    vgg16, vgg19 = (
        [step for step in ARCHITECTURES[name].body if isinstance(step, Convolution)]
        for name in ("vgg16-cifar", "vgg19-cifar")
    )
    widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
    assert [step.outputs for step in vgg16] == widths
    assert [step.shaped for step in vgg16] == [False] + [True] * 12
    assert vgg16[4].name == "block3_conv1"
    assert len(vgg19) == 16


def test_the_published_network_at_full_size(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights: Weights = {}
    inputs = 3
    for step in ARCHITECTURES["vgg16-cifar"].body:
        if isinstance(step, Pool):
            continue
        kernel = random.standard_normal((3, 3, inputs, step.outputs), dtype=np.float32) * np.float32(0.05)
        bias = np.zeros(step.outputs)
        if step.shaped:
            effect = 0.1 - random.random((3, 3, inputs // 32, step.outputs // 16))
            weights[step.name] = {"_W_": kernel, "_b_": bias, "effect": effect}
        else:
            weights[step.name] = {"kernel": kernel, "bias": bias}
        inputs = step.outputs
    weights["predictions"] = {"kernel": random.standard_normal((512, 10)), "bias": np.zeros(10)}
    model = import_lhc(write(tmp_path / "vgg.h5", weights))
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert len(stored) == 28
    found = recognise(stored["block5_conv3.weight"])
    assert (found.kind, found.block) == (Kind.LHC_FREE, (32, 16))
    assert found.density == pytest.approx(0.1, abs=0.01)
    probabilities = run(model, random.standard_normal((1, 3, 32, 32), dtype=np.float32))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def changed(layer: str, variable: str, array: NDArray[Any] | None) -> Weights:
    weights = random_weights("free")
    if array is None:
        del weights[layer][variable]
    else:
        weights[layer][variable] = array
    return weights


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (changed("second", "effect", None), r"layer 'second' has no 'effect', it has second/_W_:0, second/_b_:0"),
        (changed("second", "_W_", np.zeros((3, 3, 8, 9))), r"'second/_W_' is \(3, 3, 8, 9\), expected \(3, 3, 8, 12\)"),
        (changed("second", "_b_", np.zeros(4)), r"'second/_b_' is \(4,\), expected \(12,\)"),
        (changed("third", "effect", np.zeros((3, 3, 9, 9))), r"'third/effect' is \(3, 3, 9, 9\)"),
        (changed("third", "effect", np.full((3, 3, 2, 3), np.nan)), r"54 values of 'third/effect' are NaN or infinite"),
        (changed("third", "_b_", np.full(10, np.inf)), r"10 values of 'third/_b_' are NaN or infinite"),
        (changed("first", "kernel", None), r"layer 'first' has no 'kernel'"),
        (changed("predictions", "kernel", np.zeros((4, 7))), r"'predictions/kernel' is \(4, 7\), expected \(10, 7\)"),
    ],
)
def test_bad_arrays_are_named(tmp_path: Path, weights: Weights, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        import_lhc(write(tmp_path / "w.h5", weights), "small", **GROUPS)


def test_a_wrong_block_size_is_explained(tmp_path: Path) -> None:
    path = write(tmp_path / "w.h5", random_weights("free"))
    with pytest.raises(ModelError, match=r"for blocks of 32 x 16 channels; give the block size of the training"):
        import_lhc(path, "small")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        import_lhc(tmp_path / "absent.h5")
    broken = tmp_path / "broken.h5"
    broken.write_bytes(b"not HDF5 at all")
    with pytest.raises(ModelError, match="cannot be read as a Keras .h5 file"):
        import_lhc(broken)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file.create_dataset("data", data=np.zeros(3))
    with pytest.raises(ModelError, match="lists no layers"):
        import_lhc(tmp_path / "other.h5")
    path = write(tmp_path / "w.h5", random_weights("free"))
    with pytest.raises(ModelError, match=r"has no layer 'block1_conv1'"):
        import_lhc(path, "vgg16-cifar")
    with pytest.raises(ModelError, match=r"unknown architecture 'resnet34-cifar'\n  known: vgg16-cifar, vgg19-cifar"):
        import_lhc(path, "resnet34-cifar")


def test_without_h5py_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ToolMissing, match="pip install h5py"):
        import_lhc(tmp_path / "any.h5")
