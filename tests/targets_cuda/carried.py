"""Random layers and integer networks for a real GPU that stands where neither TVM nor PyTorch is installed.

`python -m tests.targets_cuda.carried --build FOLDER --arch sm_90` compiles them on any machine, and notes what float64,
or the integer program, answers; `--check FOLDER` runs them on the GPU, each twice and apart from the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "tf32": 2e-3, "bf16": 1e-2, "int8": 0.0}
COUNTS = {"fp16": 16, "fp32": 10, "tf32": 4, "bf16": 4, "int8": 6}
FIRST = {"fp16": 0, "fp32": 200, "tf32": 400, "bf16": 500, "int8": 0}  # seeds


def cases(precision: str, arch: str) -> Iterator[tuple[str, Any, Any, Any]]:
    """(name, executable, input, right answer)"""
    import lhcc

    target = f"cuda:arch={arch},precision={precision}"
    for seed in range(FIRST[precision], FIRST[precision] + COUNTS[precision]):
        name = f"{precision}-{seed}"
        try:
            if precision == "int8":
                yield name, *_integers(seed, f"cuda:arch={arch}")
            else:
                yield name, *_layer(seed, target)
        except lhcc.LhccError as error:
            print(f"{name} is declined: {error}", flush=True)


def _layer(seed: int, target: str) -> tuple[Any, Any, Any]:
    import torch

    import lhcc
    from tests.targets_cpu.test_cpu_layers import make_case

    case = make_case(seed)
    with torch.no_grad():
        right = case.module.double()(case.inputs[0].double()).numpy()
    return lhcc.compile(case.module.float(), target, inputs=case.inputs), case.inputs[0].numpy(), right


def _integers(seed: int, target: str) -> tuple[Any, Any, Any]:
    import lhcc
    from tests.targets_cpu.test_cpu_integers import network

    program = network(np.random.default_rng(seed))
    step = program.inputs[0]
    q = np.random.default_rng(seed).integers(int(step.low.min()), int(step.high.max()) + 1, (1, *step.shape))
    x = (np.moveaxis(q, -1, 1) * step.scale).astype(np.float32)
    return lhcc.compile(program, target), x, program.dequantise(program.run(q)[0])[0]


def build(folder: Path, arch: str, precisions: list[str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    for precision in precisions:
        for name, executable, x, right in cases(precision, arch):
            executable.save(folder / f"{name}.lhcc")
            np.savez(folder / f"{name}.npz", x=x, right=right)
            print(name, flush=True)
    return 0


def error_of(path: Path) -> float:
    """Relative, infinite when a second run differs."""
    import lhcc

    known = np.load(path.with_suffix(".npz"))
    executable: Any = lhcc.load(path)
    got, again = executable(known["x"]), executable(known["x"])
    executable.close()
    if got.shape != known["right"].shape or not np.array_equal(got, again):
        return float("inf")
    return relative_error(got, known["right"])


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float(np.linalg.norm(got - expected) / max(float(np.linalg.norm(expected)), 1e-30))


def _apart(path: Path) -> float | str:
    """In a process of its own: an illegal access ends every later launch of its process."""
    command = [sys.executable, "-m", "tests.targets_cuda.carried", "--one", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return "no end after 60 s"
    return float(done.stdout) if done.returncode == 0 else done.stderr.strip()[-300:]


def check(folder: Path, report: Path | None) -> int:
    paths = sorted(folder.glob("*.lhcc"))
    with ThreadPoolExecutor(4) as pool:
        errors = dict(zip([path.stem for path in paths], pool.map(_apart, paths), strict=True))
    bad = {name: e for name, e in errors.items() if isinstance(e, str) or not e <= TOLERANCE[name.partition("-")[0]]}
    for precision, tolerance in TOLERANCE.items():
        of = {name: e for name, e in errors.items() if name.startswith(f"{precision}-")}
        right = [e for name, e in of.items() if name not in bad and not isinstance(e, str)]
        if of:
            print(f"{precision}: {len(right)} of {len(of)} right, worst error {max(right, default=0):.1e} "
                  f"(at most {tolerance:.0e})")  # fmt: skip
    for name, error in bad.items():
        print(f"WRONG {name}: {error}")
    if report:
        report.write_text(json.dumps({"errors": errors, "wrong": sorted(bad)}, indent=1) + "\n")
    return int(bool(bad) or not errors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, metavar="FOLDER")
    parser.add_argument("--check", type=Path, metavar="FOLDER")
    parser.add_argument("--one", type=Path, metavar="ARTIFACT", help="print the error of one")
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--precisions", default=",".join(COUNTS))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.one:
        print(error_of(args.one))
        return 0
    if args.build:
        return build(args.build, args.arch, args.precisions.split(","))
    return check(args.check, args.json)


if __name__ == "__main__":
    raise SystemExit(main())
