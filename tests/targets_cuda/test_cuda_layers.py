"""Random layers and networks for the GPU, run without one: TVM's CUDA source on the emulator, against float64.

The emulator executes every thread with its own registers, shared memory that starts as not-a-number, copies that arrive
when they are waited for, matrix instructions as the hardware manual lays out their fragments, and refuses races.

`python -m tests.targets_cuda.test_cuda_layers --target cuda:precision=fp16 --seed 0 --count 100` runs more of them.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lhcc.targets.cuda.pack import Candidate, Problem  # noqa: E402
from tests.targets_cpu.test_cpu_ends import scattered  # noqa: E402
from tests.targets_cpu.test_cpu_layers import make_case  # noqa: E402
from tests.targets_cuda.carried import TOLERANCE, relative_error  # noqa: E402
from tests.targets_cuda.emulation import compile_without_gpu, emulated_gpu  # noqa: E402
from tests.zoo import ZOO  # noqa: E402

# layers of every kind, in every arithmetic: target, its precision, seeds
LAYERS = [
    *(("cuda:arch=sm_90,precision=fp16", "fp16", seed) for seed in (5, 6, 8, 11, 103, 111, 113, 118)),
    *(("cuda:arch=sm_80", "fp32", seed) for seed in (200, 204, 205)),
    *(("cuda:arch=sm_75", "fp32", seed) for seed in (206, 208, 211)),
    ("cuda:arch=sm_75,precision=fp16", "fp16", 218),
    ("cuda:arch=sm_86,precision=bf16", "bf16", 213),
    ("cuda:arch=sm_80,precision=tf32", "tf32", 216),
]

# concatenations, pooling of all kinds, dense layers, on odd sizes; channels reordered on their way in and out
NETWORKS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "lenet5": lambda: (ZOO["lenet5"].model(), torch.randn(2, *ZOO["lenet5"].shape)),
    "inception": lambda: (ZOO["inception"].model(), torch.randn(2, *ZOO["inception"].shape)),
    "scattered": lambda: (scattered(72, 100, 3, 4).eval(), torch.randn(2, 72, 5, 4)),
    "stem": lambda: (torch.nn.Conv2d(3, 40, 7, 2, 3).eval(), torch.randn(1, 3, 21, 18)),
}
DRAWN = range(300, 310)  # seeds of layers whose choices are drawn, half of them with warps that only copy


@functools.cache
def _compiled() -> list[tuple[Any, np.ndarray, Any, str]]:
    """Inputs, expected results, executables and words, all of them in one compilation."""
    calls, about = [], []
    for target, precision, seed in LAYERS:
        case = make_case(seed)
        calls.append((case.module, target, {"inputs": case.inputs}))
        about.append((case.module, case.inputs, f"{precision}, {case.words}"))
    for name, make in NETWORKS.items():
        model, x = make()
        calls.append((model, "cuda:arch=sm_90,precision=fp16", {"inputs": (x,)}))
        about.append((model, (x,), name))
    found = []
    with torch.no_grad():
        expected = [module.double()(inputs[0].double()).numpy() for module, inputs, _ in about]
    for module, _, _ in about:
        module.float()
    executables = compile_without_gpu(*calls)
    for (_, inputs, words), right, executable in zip(about, expected, executables, strict=True):
        found.append((inputs[0].numpy(), right, executable, words))
    return found


@functools.cache
def _drawn() -> list[tuple[np.ndarray, np.ndarray, Any, str]]:
    """The same of choices that the estimate would not make."""
    usual, rng = Problem.ranked, np.random.default_rng(0)

    def ranked(problem: Problem) -> list[Candidate]:
        found = usual(problem)
        copied = [candidate for candidate in found if candidate.choice.copiers]
        pool = copied if copied and rng.random() < 0.5 else found
        return [pool[int(rng.integers(len(pool)))]]

    cases = [make_case(seed) for seed in DRAWN]
    with torch.no_grad():
        expected = [case.module.double()(case.inputs[0].double()).numpy() for case in cases]
    with patch.object(Problem, "ranked", ranked):
        executables = compile_without_gpu(
            *((case.module.float(), "cuda:arch=sm_90,precision=fp16", {"inputs": case.inputs}) for case in cases)
        )
    every = zip(cases, expected, executables, strict=True)
    return [(case.inputs[0].numpy(), right, executable, case.words) for case, right, executable in every]


@pytest.mark.parametrize("number", range(len(DRAWN)))
def test_layers_agree_with_float64_whatever_is_chosen(number: int) -> None:
    x, expected, executable, words = _drawn()[number]
    with emulated_gpu():
        got = executable(x)
    schedules = [layer.schedule for layer in executable.program.layers]
    assert relative_error(got, expected) <= TOLERANCE["fp16"], f"{words}: {schedules}"


def test_some_drawn_choices_have_warps_that_only_copy() -> None:
    schedules = [layer.schedule for _, _, executable, _ in _drawn() for layer in executable.program.layers]
    assert any("copied by" in text for text in schedules) and any("copied by" not in text for text in schedules)


def test_a_large_window_fits_the_smallest_shared_memory() -> None:
    """AlexNet's first layer: only small tiles fit, of which every thread copies much."""
    module = torch.nn.Conv2d(3, 20, 11, 4, 2).eval()
    x = torch.randn(1, 3, 63, 63, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module.double()(x.double()).numpy()
    (executable,) = compile_without_gpu((module.float(), "cuda:arch=sm_75", {"inputs": (x,)}))
    with emulated_gpu():
        got = executable(x.numpy())
    assert relative_error(got, expected) <= TOLERANCE["fp32"]


@pytest.mark.parametrize("number", range(len(LAYERS)))
def test_random_layer_agrees_with_float64(number: int) -> None:
    x, expected, executable, words = _compiled()[number]
    with emulated_gpu():
        got = executable(x)
    assert relative_error(got, expected) <= TOLERANCE[LAYERS[number][1]], words


@pytest.mark.parametrize("number", range(len(NETWORKS)))
def test_network_agrees_with_float64(number: int) -> None:
    x, expected, executable, words = _compiled()[len(LAYERS) + number]
    with emulated_gpu():
        got = executable(x)
        assert relative_error(got, expected) <= TOLERANCE["fp16"], words
        assert np.array_equal(executable(x), got), "a second run differs"
    ordered = [reason for reason in executable.program.reasons if reason.text.startswith("channels reordered")]
    assert bool(ordered) == (words == "scattered")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cuda:precision=fp16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    options = parser.parse_args()
    precision = options.target.partition("precision=")[2].partition(",")[0] or "fp32"
    failed = 0
    for start in range(options.seed, options.seed + options.count, 10):  # ten in a compilation
        seeds = range(start, min(start + 10, options.seed + options.count))
        cases = [make_case(seed) for seed in seeds]
        with torch.no_grad():
            expected = [case.module.double()(case.inputs[0].double()).numpy() for case in cases]
        calls = [(case.module.float(), options.target, {"inputs": case.inputs}) for case in cases]
        with emulated_gpu():
            for case, right, executable in zip(cases, expected, compile_without_gpu(*calls), strict=True):
                error = relative_error(executable(case.inputs[0].numpy()), right)
                if not error <= TOLERANCE[precision]:
                    failed += 1
                    print(f"error {error:.2e}: {case.words}")
    print(f"{options.count - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
