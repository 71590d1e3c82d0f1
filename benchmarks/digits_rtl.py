"""The held-out digits through circuits, image for image with the software: `python -m benchmarks.digits_rtl`.

Every network of examples/digits, made dyadic and quantised, runs as the numpy program and in Verilator, all images back
to back; a few of them in Icarus too.  Printed are the answers that are right in software (the trained floats, and the
integers) and in the circuit, how many of the circuit's integers differ, and the cycles: predicted, and simulated.
`--reuse 1` takes circuits with a stage of its own for every layer, for which the dense networks are large.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.dyadic_digits import FOLDER, correct, data
from lhcc.approximation import approximate
from lhcc.approximation.calibrate import run as run_float
from lhcc.approximation.quantise import quantise
from lhcc.targets.fpga import FpgaExecutable, FpgaOptions, compile_program
from lhcc.targets.fpga.packing import pack
from lhcc.targets.fpga.testbench import run_icarus, write_testbench


@dataclass
class Row:
    """`correct_*` out of `images`; `differing` integers out of `integers`; cycles for all images."""

    network: str
    set: str
    reuse: str
    images: int
    correct_float: int
    correct_integers: int
    correct_circuit: int
    integers: int
    differing: int
    predicted_cycles: int
    simulated_cycles: int
    images_off: int
    """images whose last result came in another cycle than was predicted"""
    icarus_images: int
    icarus: str
    luts_model: int
    seconds: float

    @property
    def exact(self) -> bool:
        agree = (self.differing, self.images_off, self.predicted_cycles) == (0, 0, self.simulated_cycles)
        return agree and (not self.icarus_images or self.icarus.startswith("PASS"))


def in_icarus(exe: FpgaExecutable, inputs: list[Any], want: tuple[Any, ...], seconds: int) -> str:
    words = [pack(x, s) for x, s in zip(inputs, exe.pipeline.inputs, strict=True)]
    results = [pack(y, s) for y, s in zip(want, exe.pipeline.outputs, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        files = {**exe.files, **write_testbench(exe.pipeline, words, results)}
        return run_icarus(files, Path(folder), seconds=seconds)


def measure(name: str, which: str, reuse: str, images: int, few: int) -> Row:
    start = time.perf_counter()
    calibration, x, labels = data()
    x, labels = x[:images], labels[:images]
    model = onnx.load(FOLDER / f"{name}.onnx")
    program = quantise(approximate(model, set=which, calibrate=calibration), calibration)
    chosen = int(reuse) if reuse.isdigit() else reuse
    exe = compile_program(program, FpgaOptions(reuse=chosen, max_luts=10_000_000, max_bram=10_000))  # for no device
    ints = program.quantise(x)
    want = program.run(*ints)
    run, timing = exe.simulate(*ints), exe.predict(len(x))
    second = in_icarus(exe, [a[:few] for a in ints], tuple(y[:few] for y in want), 1800) if few else ""
    return Row(
        name, which, reuse, len(x),
        correct(run_float(model, x)[0], labels), correct(want[0], labels), correct(run.outputs[0], labels),
        sum(y.size for y in want), sum(int((a != b).sum()) for a, b in zip(run.outputs, want, strict=True)),
        timing.cycles, run.cycles, int((np.array(run.finished) != np.array(timing.finished)).sum()),
        few, second.splitlines()[-1] if second else "", exe.area.luts, time.perf_counter() - start,
    )  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=[p.stem for p in sorted(FOLDER.glob("*.onnx"))])
    parser.add_argument("--set", default="digits:2:5", help="dyadic weights (default digits:2:5)")
    parser.add_argument("--reuse", default="folded", help="folded (default), 1 for unrolled, auto")
    parser.add_argument("--images", type=int, default=360, help="held-out images (default 360, all)")
    parser.add_argument("--icarus", type=int, default=2, help="images that Icarus simulates too (default 2)")
    parser.add_argument("--json", type=Path, help="write the rows here, after every network")
    args = parser.parse_args(arguments)
    rows = []
    print("network            images  float  integers  circuit  differ         cycles  predicted  Icarus")
    for name in args.networks:
        row = measure(name, args.set, args.reuse, args.images, args.icarus)
        rows.append(row)
        share = [100 * n / row.images for n in (row.correct_float, row.correct_integers, row.correct_circuit)]
        print(
            f"{name:18} {row.images:6}  {share[0]:5.2f}  {share[1]:8.2f}  {share[2]:7.2f}  "
            f"{row.differing} of {row.integers:,}  {row.simulated_cycles:9,}  {row.predicted_cycles:9,}"
            f"  {row.icarus_images}: {row.icarus or 'not run'}",
            flush=True,
        )
        if args.json:
            args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return int(not all(row.exact for row in rows))


if __name__ == "__main__":
    sys.exit(main())
