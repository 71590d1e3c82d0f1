"""Networks with learned kernel shapes on an NVIDIA GPU, against PyTorch's fastest in the same process.

`python -m benchmarks.cuda --check` compares every answer with PyTorch's, measures, and compares with what was asked.
`python -m benchmarks.cuda --build FOLDER --arch sm_90` compiles the models on a machine without a GPU, and notes
PyTorch's answers; with `--artifacts FOLDER` they are run, and checked, where neither a compiler nor PyTorch is
installed: numpy and the driver are enough.  Rows are NETWORK:DENSITY:BATCH.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.models import CACHE, network_file
from benchmarks.results import Case, Figure, Report, Result, origin
from lhcc.errors import LhccError
from lhcc.runtime.cuda import CudaExecutable
from lhcc.runtime.cuda_driver import Driver, version

Row = tuple[str, float, int]

# Speed-up asked for over PyTorch's fastest, in fp16 on an H200.
ASKED: dict[Row, float] = {
    ("vgg16-cifar", 0.1, 128): 3.0,
    ("vgg16-cifar", 0.1, 1): 1.5,
    ("resnet34", 0.25, 64): 2.0,
    ("resnet50", 0.25, 64): 1.5,
    ("resnet34", 1.0, 64): 0.7,
}
CURVE: list[Row] = [("vgg16-cifar", density, 128) for density in (0.2, 0.35, 0.5, 0.75, 1.0)]
ERRORS = {"fp32": 1e-5, "fp16": 2e-3}
ROUNDS, SLICE_MS = 15, 40.0
RIVALS = ("cudnn", "inductor")


def rows(text: str | None, artifacts: Path | None = None) -> list[Row]:
    """Those that the user names, or that were built, or all."""
    if text is None:
        return [row for row in (*ASKED, *CURVE) if artifacts is None or answer_file(artifacts, row).exists()]
    found = []
    for row in text.split(","):
        name, density, batch = row.split(":")
        found.append((name, float(density), int(batch)))
    return found


def title(row: Row, precision: str) -> str:
    return f"{row[0]}-d{row[1]:g}-b{row[2]}-{precision}"


def answer_file(folder: Path, row: Row) -> Path:
    """PyTorch's answer to the example, as it was when the artifacts were built."""
    return folder / f"{title(row, 'answer')}.npy"


def model_file(row: Row) -> Path:
    """The network as ONNX, for this batch."""
    name, density, batch = row
    path = network_file(name, density)
    if batch == 1:
        return path
    batched = CACHE / f"{path.stem}-b{batch}.onnx"
    if not batched.exists():
        import onnx

        model = onnx.load(str(path))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        del model.graph.value_info[:]
        onnx.save(model, str(batched))
    return batched


def executable(
    row: Row, precision: str, arch: str, artifacts: Path | None, tuning: Path | None = None
) -> CudaExecutable:
    import lhcc

    loaded: Any
    if artifacts is None:
        tuned = str(tuning) if tuning and precision == "fp16" else None
        loaded = lhcc.compile(str(model_file(row)), f"cuda:arch={arch},precision={precision}", tuning=tuned)
    elif (path := artifacts / f"{title(row, precision)}.lhcc").exists():
        loaded = lhcc.load(path)
    else:
        raise LhccError(f"there is no {path}", f"make it with --build, --rows {row[0]}:{row[1]:g}:{row[2]}")
    if not isinstance(loaded, CudaExecutable):
        raise LhccError(f"{title(row, precision)} is not for a GPU")
    return loaded


def example(compiled: CudaExecutable) -> NDArray[Any]:
    return np.random.default_rng(1).standard_normal(compiled.inputs[0].shape).astype(np.float32)


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def reference(model: Path, x: NDArray[Any]) -> NDArray[Any]:
    """PyTorch's answer in fp32 on the processor."""
    import torch

    from benchmarks.onnx_to_torch import to_torch

    with torch.no_grad():
        return np.asarray(to_torch(model).eval()(torch.from_numpy(x)).numpy())


def answer(row: Row, x: NDArray[Any], artifacts: Path | None) -> NDArray[Any]:
    if artifacts is not None and (known := answer_file(artifacts, row)).exists():
        return np.asarray(np.load(known))
    return reference(model_file(row), x)


def check(row: Row, precision: str, args: argparse.Namespace, report: Report) -> None:
    compiled = executable(row, precision, args.arch, args.artifacts, args.tuning)
    x = example(compiled)
    error = relative_error(compiled(x), answer(row, x, args.artifacts))
    compiled.close()
    report.figures.append(Figure(f"{title(row, precision)}: relative error", error, ERRORS[precision], "", False))
    print(report.figures[-1], flush=True)


def measure(row: Row, args: argparse.Namespace, report: Report) -> Case:
    from benchmarks import cuda_peers

    compiled = executable(row, "fp16", args.arch, args.artifacts, args.tuning)
    x = example(compiled)
    driver = compiled.loaded().driver
    contenders = [cuda_peers.ours(compiled, x)]
    results = [Result("lhcc", "fp16", "ours")]
    rivals = {"cudnn": cuda_peers.cudnn, "inductor": cuda_peers.inductor}
    for name, make in ((name, rivals[name]) for name in args.rivals):
        try:
            contenders.append(make(model_file(row), x))
            results.append(Result(name, "fp16", version=contenders[-1].version))
        except Exception as error:  # a rival that does not run is shown as such
            report.cases.append(
                Case(f"{title(row, 'fp16')}: {name}", 1, [Result(name, "fp16", error=str(error)[:500])])
            )
            print(f"{title(row, 'fp16')}: {name} did not run: {str(error).splitlines()[0]}", flush=True)
    expected = contenders[-1].answer if len(contenders) > 1 else None
    counts = [cuda_peers.runs_per_slice(driver, contender, args.slice_ms) for contender in contenders]
    for _ in range(args.rounds):
        for contender, result, count in zip(contenders, results, counts, strict=True):
            result.rounds_ms.append(cuda_peers.milliseconds(driver, contender, count))
    for contender, result in zip(contenders, results, strict=True):
        result.summarise(result.rounds_ms)
        if expected is not None and contender.answer is not None:
            result.relative_error = relative_error(contender.answer, expected)
            if not result.relative_error <= 10 * ERRORS["fp16"]:
                result.error = f"a wrong answer: relative error {result.relative_error:.1e}"
    case = Case(title(row, "fp16"), 1, results, {"network": row[0], "density": row[1], "batch": row[2]})
    report.cases.append(case)
    speed = case.speed("lhcc", "fp16")
    times = ", ".join(f"{r.peer} {r.median_ms:.3f} ms" for r in results if r.median_ms is not None)
    print(f"{case.title}: {times}{'' if speed is None else f'; {speed:.2f}x the fastest rival'}", flush=True)
    if row in ASKED:
        report.figures.append(Figure(f"{case.title}: speed-up over PyTorch's fastest", speed, ASKED[row]))
    if args.profile:
        print(compiled.profile(x), flush=True)
    compiled.close()
    return case


def break_even(cases: list[Case]) -> float | None:
    """The density of VGG16 at which we are as fast as the fastest rival, between two measured ones."""
    found = [(case.facts["density"], case.speed("lhcc", "fp16")) for case in cases if "density" in case.facts]
    points = sorted((density, speed) for density, speed in found if speed is not None)
    for (left, fast), (right, slow) in zip(points, points[1:], strict=False):
        if fast >= 1 > slow:
            return float(left + (right - left) * (fast - 1) / (fast - slow))
    return None


def build(args: argparse.Namespace) -> int:
    args.build.mkdir(parents=True, exist_ok=True)
    for row in rows(args.rows):
        for precision in args.precisions.split(","):
            path = args.build / f"{title(row, precision)}.lhcc"
            compiled = executable(row, precision, args.arch, None, args.tuning)
            compiled.save(path)
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
        np.save(answer_file(args.build, row), reference(model_file(row), example(compiled)))
    return 0


def gpu(driver: Driver) -> dict[str, Any]:
    """What the figures hold for."""
    query = "name,driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.limit"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", f"--id={driver.index}"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()
    except OSError:
        told = ""
    return {"name": driver.name, "capability": driver.capability, "cuda": version(), "nvidia-smi": f"{query}: {told}"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit 1 when an answer is wrong or a figure is missed")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="only compile, into this folder")
    parser.add_argument("--artifacts", type=Path, metavar="FOLDER", help="compiled models, from --build")
    parser.add_argument("--arch", default="sm_90")
    parser.add_argument("--tuning", type=Path, metavar="FILE", help="choices that were measured, for fp16")
    parser.add_argument("--rows", help="NETWORK:DENSITY:BATCH, separated by commas (default: all)")
    parser.add_argument("--precisions", default="fp16,fp32", help="whose answers are checked")
    parser.add_argument("--answers-only", action="store_true", help="measure nothing: for compute-sanitizer")
    parser.add_argument("--profile", action="store_true", help="the layers of every row")
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS, help="inductor takes minutes a network")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--slice-ms", type=float, default=SLICE_MS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    try:
        if args.build:
            return build(args)
        driver = Driver()
    except LhccError as error:
        print(f"error: {error}\nnothing was measured")
        return 2
    report = Report("cuda", origin=origin(), settings={"rounds": args.rounds, "gpu": gpu(driver)})
    print(report.settings["gpu"], flush=True)
    try:
        return run(args, report)
    except LhccError as error:
        print(f"error: {error}")
        return 2


def run(args: argparse.Namespace, report: Report) -> int:
    for row in rows(args.rows, args.artifacts):
        for precision in args.precisions.split(","):
            check(row, precision, args, report)
        if not args.answers_only:
            measure(row, args, report)
        if args.json:
            report.write(args.json)
    vgg = [case for case in report.cases if case.facts.get("network") == "vgg16-cifar" and case.facts["batch"] == 128]
    even = break_even(vgg)
    if len(vgg) > 1:
        print(f"break-even density of VGG16: {'not between the measured ones' if even is None else f'{even:.2f}'}")
    report.settings["break_even_density"] = even
    if args.json:
        report.write(args.json)
    for figure in report.missed:
        print(f"missed: {figure}")
    return 1 if args.check and report.missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
