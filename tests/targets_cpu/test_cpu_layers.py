"""Single random layers through the whole compiler, against PyTorch in float64: odd sizes, every zero pattern.

`python -m tests.targets_cpu.test_cpu_layers --seed 0 --count 500` runs more of them.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import lhcc  # noqa: E402


@dataclass(frozen=True)
class Case:
    module: Any
    inputs: Any
    words: str


def _mask(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros in one of the ways that people prune."""
    outputs, inputs = shape[:2]
    kind = rng.choice(["dense", "blocks", "random", "outputs", "taps", "empty", "patterns"])
    density = float(rng.choice([0.05, 0.2, 0.5]))
    if kind == "dense":
        return np.ones(shape)
    if kind == "empty":
        return np.zeros(shape)
    if kind == "random":
        return rng.random(shape) < density
    if kind == "outputs":
        return np.broadcast_to(rng.random((outputs, 1, 1, 1)) < density, shape)
    if kind == "taps":
        return np.broadcast_to(rng.random((1, 1, *shape[2:])) < density, shape)
    if kind == "patterns":
        sets = rng.random((4, *shape[2:])) < 0.5
        return sets[rng.integers(0, 4, (outputs, inputs))]
    block_out, block_in = int(rng.choice([4, 16])), int(rng.choice([8, 32]))
    blocks = rng.random((-(-outputs // block_out), -(-inputs // block_in), *shape[2:])) < density
    return np.repeat(np.repeat(blocks, block_out, 0), block_in, 1)[:outputs, :inputs]


def make_case(seed: int) -> Case:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def pick(*options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    inputs, outputs = int(rng.integers(1, 70)), int(rng.integers(1, 70))
    groups = 1
    kind = pick("plain", "plain", "plain", "grouped", "depthwise", "transposed", "linear")
    if kind == "linear":
        layer: Any = torch.nn.Linear(inputs, outputs, bias=pick(True, False))
        mask = _mask(rng, (outputs, inputs, 1, 1)).reshape(outputs, inputs)
        x = torch.randn(int(rng.integers(1, 5)), inputs)
    else:
        if kind == "grouped":
            groups = pick(2, 3, 4)
            inputs, outputs = groups * int(rng.integers(1, 20)), groups * int(rng.integers(1, 20))
        if kind == "depthwise":
            groups, outputs = inputs, inputs
        kernel = pick((1, 1), (3, 3), (3, 3), (5, 5), (7, 7), (1, 7), (2, 3))
        stride, dilation = pick((1, 1), (1, 1), (2, 2), (1, 2), (3, 1)), pick((1, 1), (1, 1), (2, 2))
        padding = (int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1])))
        reach = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in range(2)]
        size = [max(reach[axis] - 2 * padding[axis], 1) + int(rng.integers(0, 19)) for axis in range(2)]
        make = torch.nn.ConvTranspose2d if kind == "transposed" else torch.nn.Conv2d
        extra = {"output_padding": 0} if kind == "transposed" else {}
        layer = make(inputs, outputs, kernel, stride, padding, dilation=dilation, groups=groups, **extra)
        if kind == "transposed":
            size = [max(size[axis], -(-(2 * padding[axis] + 2) // stride[axis]) + 1) for axis in range(2)]
        mask = _mask(rng, tuple(layer.weight.shape))
        x = torch.randn(int(rng.integers(1, 5)), inputs, *size)
    layer.weight.data *= torch.from_numpy(np.ascontiguousarray(mask)).to(layer.weight.dtype)
    activation = pick(None, torch.nn.ReLU(), torch.nn.SiLU(), torch.nn.LeakyReLU(0.1), torch.nn.Hardswish())
    module = torch.nn.Sequential(layer, *([activation] if activation is not None else []))
    return Case(module.eval(), (x,), f"seed {seed}: {module} on {tuple(x.shape)}, {float(mask.mean()):.2f} kept")


def error(case: Case, **options: Any) -> float:
    """Relative 2-norm against float64; NaN where the compiled layer left something unwritten."""
    with torch.no_grad():
        expected = case.module.double()(case.inputs[0].double()).numpy()
    case.module.float()
    executable = lhcc.compile(case.module, inputs=case.inputs, **options)
    executable._arena.view(np.float32)[...] = np.nan  # poison: what is not written shows
    got = executable(case.inputs[0].numpy())
    assert got.shape == expected.shape
    return float(np.linalg.norm(got - expected) / max(float(np.linalg.norm(expected)), 1e-30))


@pytest.mark.parametrize("seed", range(40))
def test_random_layer_agrees_with_float64(seed: int) -> None:
    case = make_case(seed)
    assert error(case) <= 1e-5, case.words


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_two_threads_give_the_same_answer(seed: int) -> None:
    case = make_case(seed)
    assert error(case, threads=2) <= 1e-5, case.words


@pytest.mark.parametrize("seed", range(2000, 2008))
def test_dense_encoding_gives_the_same_answer(seed: int) -> None:
    case = make_case(seed)
    assert error(case, encoding="dense") <= 1e-5, case.words


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=500)
    options = parser.parse_args()
    failed = 0
    for done in range(options.count):
        if done % 50 == 0:
            print(f"{done} of {options.count} layers, {failed} failed", file=sys.stderr, flush=True)
        case = make_case(options.seed + done)
        found = error(case)
        if not found <= 1e-5:
            failed += 1
            print(f"error {found:.2e}: {case.words}")
    print(f"{options.count - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
