"""Importing PyTorch models: what comes out, under which names, and what is said when something is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lhcc
from lhcc.errors import InputError, ModelError, UnsupportedOperator
from lhcc.frontend import import_model

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch


class Block(torch.nn.Module):  # type: ignore[name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = torch.nn.BatchNorm2d(4)
        self.relu = torch.nn.ReLU()
        self.conv2 = torch.nn.Conv2d(4, 3, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        return self.relu(x + self.conv2(self.relu(self.bn1(self.conv1(x)))))


class Net(torch.nn.Module):  # type: ignore[name-defined]
    def __init__(self) -> None:
        super().__init__()
        self.layer1 = torch.nn.Sequential(Block(), Block())

    def forward(self, x: Any) -> Any:
        return self.layer1(x)


def bindings(module: Any) -> list[tuple[str, str]]:
    """(layer, operator) of every binding of main."""
    (block,) = module["main"].body.blocks
    return [(b.var.name, b.value.op.name.removeprefix("relax.")) for b in block.bindings if hasattr(b.value, "op")]


def dynamic_program() -> Any:
    batch = torch.export.Dim("batch", min=1, max=64)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten())
    return torch.export.export(model.eval(), (torch.rand(2, 3, 5, 5),), dynamic_shapes=({0: batch},))


def test_operators_bear_the_paths_of_their_modules() -> None:
    found = bindings(import_model(Net(), torch.rand(1, 3, 6, 6)))
    assert found[:7] == [
        ("layer1.0.conv1", "nn.conv2d"),
        ("layer1.0.conv1", "add"),  # the bias
        ("layer1.0.bn1", "multiply"),
        ("layer1.0.bn1", "add"),
        ("layer1.0.relu", "nn.relu"),
        ("layer1.0.conv2", "nn.conv2d"),
        ("layer1.0.add", "add"),
    ]
    assert found[8][0] == "layer1.1.conv1"


def test_the_module_keeps_its_training_mode_and_is_compiled_for_inference() -> None:
    model = Net()
    model.layer1[0].eval()
    modes = [m.training for m in model.modules()]
    names = {operator for _, operator in bindings(import_model(model, torch.rand(1, 3, 6, 6)))}
    assert [m.training for m in model.modules()] == modes
    assert "nn.batch_norm" not in names


def test_weights_are_constants_and_inputs_and_outputs_are_named() -> None:
    main = import_model(Net(), torch.rand(2, 3, 6, 6))["main"]
    assert [p.name for p in main.params] == ["x"]
    assert list(main.attrs["input_names"]) == ["x"] and list(main.attrs["output_names"]) == ["output"]


def test_operators_on_constants_vanish() -> None:
    class Positions(torch.nn.Module):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            return x + torch.arange(4, dtype=torch.float32).reshape(1, 4).repeat(2, 1).cos()

    assert [operator for _, operator in bindings(import_model(Positions(), torch.rand(2, 4)))] == ["add"]


def test_every_unsupported_operator_is_listed_once_with_its_layers() -> None:
    class Odd(torch.nn.Module):  # type: ignore[name-defined]
        def forward(self, x: Any) -> Any:
            y = torch.special.airy_ai(x) + torch.special.bessel_j0(x)
            return torch.special.airy_ai(y)

    with pytest.raises(UnsupportedOperator) as caught:
        import_model(Odd(), torch.rand(3))
    assert caught.value.message == (
        "2 operators are not supported: special_airy_ai.default (in 'special_airy_ai', 'special_airy_ai_1'); "
        "special_bessel_j0.default (in 'special_bessel_j0')"
    )


def test_a_module_without_example_inputs() -> None:
    with pytest.raises(InputError, match="Net needs example inputs"):
        import_model(Net())


def test_shapes_may_stand_for_example_inputs() -> None:
    main = import_model(Net(), input_shapes={"x": (3, 3, 6, 7)})["main"]
    assert [int(n) for n in main.params[0].ty.shape.values] == [3, 3, 6, 7]
    with pytest.raises(InputError, match="forward has no argument 'y'"):
        import_model(Net(), input_shapes={"y": (3, 3, 6, 7)})


def test_numpy_inputs_and_named_inputs() -> None:
    for inputs in (np.zeros((1, 3, 6, 6), np.float32), {"x": np.zeros((1, 3, 6, 6), np.float32)}):
        assert len(bindings(import_model(Net(), inputs))) == 16


def test_wrong_example_inputs_are_one_sentence() -> None:
    with pytest.raises(ModelError, match="torch.export cannot trace Net: "):
        import_model(Net(), torch.rand(1, 5, 6, 6))


def test_an_open_dimension_must_be_bound() -> None:
    program = dynamic_program()
    with pytest.raises(InputError, match=r"dimension 0 \('s\d+'\) of input 'input' has no fixed size") as caught:
        import_model(program)
    assert "--input-shape" in str(caught.value)
    for given in ({"inputs": torch.rand(7, 3, 5, 5)}, {"input_shapes": {"input": (7, 3, 5, 5)}}):
        main = import_model(program, **given)["main"]
        assert [int(n) for n in main.ret_ty.shape.values] == [7, 36]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((7, 3, 6, 5), "dimension 2 of input 'input' is 5 in the model, not 6"),
        ((7, 3, 5), "input 'input' has 4 dimensions, not the 3 of 7x3x5"),
    ],
)
def test_fixed_dimensions_cannot_be_changed(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_model(dynamic_program(), input_shapes={"input": shape})


def test_pt2_files(tmp_path: Path) -> None:
    torch.export.save(dynamic_program(), tmp_path / "model.pt2")
    main = import_model(tmp_path / "model.pt2", input_shapes={"input": (2, 3, 5, 5)})["main"]
    assert [int(n) for n in main.ret_ty.shape.values] == [2, 36]
    (tmp_path / "broken.pt2").write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"'.*broken.pt2' is not a program saved by torch.export"):
        import_model(tmp_path / "broken.pt2")


def test_nan_weights_are_warned_of_by_name() -> None:
    model = Net()
    model.layer1[1].conv2.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.warns(UserWarning, match="weight 'layer1.1.conv2.weight' contains NaN"):
        import_model(model, torch.rand(1, 3, 6, 6))


def test_other_objects_are_refused() -> None:
    with pytest.raises(ModelError, match="a model of type list cannot be imported"):
        import_model([1, 2])


class Sliced(torch.nn.Module):  # type: ignore[name-defined]
    """An empty slice, as networks of variable width have them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Any) -> Any:
        y = self.stem(x)
        return torch.cat([y[:, 4:], y, y[:, :0].tanh(), y[:, :2]], 1)


def test_tensors_without_elements() -> None:
    model, x = Sliced(), torch.rand(1, 3, 5, 5)
    with torch.no_grad():
        expected = model(x)
    assert torch.linalg.norm(lhcc.compile(model, inputs=x)(x) - expected) <= 1e-6 * torch.linalg.norm(expected)


class Computed(torch.nn.Module):  # type: ignore[name-defined]
    """What a function computes, as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def assert_answers_as_pytorch(model: Any, *inputs: Any) -> None:
    with torch.no_grad():
        expected = model.eval()(*inputs)
    answer = lhcc.compile(model, inputs=inputs)(*inputs)
    pairs = zip(answer, expected, strict=True) if isinstance(expected, tuple) else [(answer, expected)]
    for found, wanted in pairs:
        assert found.shape == wanted.shape
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.LayerNorm([5, 7]),
        torch.nn.LayerNorm(7, elementwise_affine=False),
        torch.nn.GroupNorm(2, 6),
        torch.nn.GroupNorm(3, 6, affine=False),
        torch.nn.InstanceNorm2d(6, affine=True),
        torch.nn.AdaptiveMaxPool2d(1),
        torch.nn.AdaptiveMaxPool2d((5, 1)),
        torch.nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"),
    ],
    ids=str,
)
def test_layers_that_need_a_converter_of_ours(layer: Any, capfd: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    assert_answers_as_pytorch(layer, torch.randn(2, 6, 5, 7) + 1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "pick",
    [
        lambda x: x[:, [0, -1]],
        lambda x: x[[0, 1], [-1, 0]],
        lambda x: x[:, :, [-1, 2], [0, -2]],
        lambda x: x[[1, 0], :, [-1, 2]],
        lambda x: x[:, torch.tensor([[0], [2]]), torch.tensor([1, -1, 0])],
        lambda x: x[:, x[0, 0, 0].long()],
        lambda x: x[x[0, 0, 0, :2].long(), x[0, 0, 0, :2].long()],
        lambda x: torch.nn.functional.unfold(x, (2, 3), padding=1),
        lambda x: torch.slice_scatter(x, x[:, :2] + 1, 1, 3, 5),
        lambda x: torch.slice_scatter(x, x[:, :3] + 1, 1, 0, 6, 2),
        lambda x: x.max(1),
        lambda x: x.min(2, keepdim=True),
    ],
)
def test_elements_are_picked_as_in_pytorch(pick: Any) -> None:
    x = torch.arange(2.0 * 6 * 5 * 7).reshape(2, 6, 5, 7) % 97
    x[0, 0, 0] = torch.tensor([1.0, -1, 0, 1, -2, 0, 0])
    assert_answers_as_pytorch(Computed(pick), x)


def test_an_operator_that_tvm_takes_for_another_is_refused() -> None:
    model = Computed(lambda x, grid: torch.nn.functional.grid_sample(x, grid, align_corners=False))
    with pytest.raises(UnsupportedOperator, match="its result is float32 2x5x4x4, not float32 2x5x4x2 as TVM has it"):
        lhcc.compile(model, inputs=(torch.randn(2, 5, 6, 7), torch.rand(2, 4, 4, 2)))


def test_example_inputs_may_be_nested() -> None:
    x = torch.randn(1, 3, 4, 4)
    executable = lhcc.compile(Computed(lambda pair: pair[0] - 2 * pair[1]), inputs=((x, x + 1),))
    torch.testing.assert_close(executable(x, x + 1), -x - 2)
    with pytest.raises(InputError, match="an example input is a str, which is no tensor"):
        lhcc.compile(Net(), inputs="x")


def test_a_layer_derived_from_a_layer_of_pytorch_bears_its_path() -> None:
    from lhcc.nn import LHConv2d

    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), LHConv2d(4, 4, 3, bias=False))
    assert bindings(import_model(model, torch.rand(1, 3, 6, 6)))[-1] == ("1", "nn.conv2d")


def test_one_tensor_may_be_the_example_of_two_inputs() -> None:
    x = torch.randn(2, 3)
    for inputs in ((x, x), [x.numpy(), x.numpy()], {"a": x, "b": x}):
        executable = lhcc.compile(Difference(), inputs=inputs)
        torch.testing.assert_close(executable(x, x + 1), -x - 2)


class Difference(torch.nn.Module):  # type: ignore[name-defined]
    def forward(self, a: Any, b: Any) -> Any:
        return a - 2 * b


@pytest.mark.parametrize(
    "function",
    [
        torch.nn.functional.selu,
        lambda x: torch.nn.functional.elu(x, 0.3),
        torch.isfinite,
        torch.logaddexp,
        lambda x: x.any(1),
        lambda x: (x > -1).all(2, keepdim=True),
        lambda x: (x > 3).any(),
        lambda x: (x * 3).int() / 2,
        lambda x: (x * 3).int() / (x.abs() + 1).long(),
        lambda x: (x > 0) * (x < 1),
        lambda x: torch.count_nonzero(x > 0, dim=1),
        lambda x: torch.nn.functional.max_pool2d(x[0], 2, ceil_mode=True),
        lambda x: torch.nn.functional.avg_pool1d(x[0, 0], 3, 2, 1),
    ],
)
def test_operators_that_tvm_takes_for_simpler_ones(function: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 7)
    model = Computed(lambda a, b: function(a, b)) if function is torch.logaddexp else Computed(function)
    assert_answers_as_pytorch(model, *([x, 2 - x] if function is torch.logaddexp else [x]))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.nn.functional.interpolate(x, size=(3, 4), mode="bilinear", antialias=True),
        lambda x: torch.nn.functional.fold(torch.nn.functional.unfold(x, 3), (5, 7), 3),
    ],
)
def test_operators_that_are_refused(function: Any) -> None:
    with pytest.raises(UnsupportedOperator):
        lhcc.compile(Computed(function), inputs=torch.randn(2, 6, 5, 7))


@pytest.mark.filterwarnings("error")
def test_the_import_says_nothing_of_pytorch_s_own_affairs() -> None:
    import_model(Net(), torch.rand(1, 3, 6, 6))
