"""Additions of a dense dyadic 3x3 layer in every form, against the peers' for its direct form; what each form keeps.

`python -m benchmarks.adders_transposed [--seconds 10]`. The layer has 16 inputs, 32 outputs and the weights of the
dense 144x32 dyadic matrix of `benchmarks.adders`. The peers' best is taken from there: they share sums over all nine
taps, as the direct form does. A transposed axis multiplies a pixel with all its taps at once, so more sums are shared,
and keeps partial sums where the direct form keeps pixels: `kept bits` counts both, for a 32x32 image of 8-bit pixels.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.adders import fixed_matrices
from benchmarks.results import origin
from lhcc.integer import Builder, Conv, Program
from lhcc.targets.fpga import FpgaOptions, compile_program
from lhcc.targets.fpga.cost import area
from lhcc.targets.fpga.forms import FORMS
from lhcc.targets.fpga.stages import SlidingStage
from lhcc.targets.fpga.transposed import TransposedStage

PEERS = Path(__file__).with_name("results") / "adders.json"
MATRIX = "144x32 density 1"
SIZE, ASKED = 32, -0.18


@dataclass
class Row:
    form: str
    adders: int
    """additions for one pixel of the output, those that join partial sums included"""
    gain: float
    """over the peers' additions in the direct form, as a fraction"""
    kept_bits: int
    luts_model: int
    seconds: float


def layer() -> Program:
    (matrix,) = (m for _, name, m in fixed_matrices(["dyadic"]) if name == MATRIX)
    b = Builder()
    x = b.input("x", (SIZE, SIZE, 16), 8, 0)
    return b.build(b.conv("layer", x, matrix.reshape(3, 3, 16, 32), fraction=1, padding=(1, 1, 1, 1)))


def measure(program: Program, form: str, peers: int, seconds: float) -> Row:
    options = FpgaOptions(reuse=1, form=form, adder_seconds=seconds, max_luts=1_000_000)
    start = time.thread_time()
    (stage,) = compile_program(program, options).pipeline.stages
    took = time.thread_time() - start
    assert isinstance(stage, SlidingStage)
    check(program, stage)
    kept = sum(bits * pixels for bits, pixels in stage.delays)
    return Row(stage.form, stage.adders, stage.adders / peers - 1, kept, area(stage).luts, took)


def check(program: Program, stage: SlidingStage) -> None:
    """The stage's additions against the weights, with random pixels."""
    conv = program["layer"]
    assert isinstance(conv, Conv)
    weight = conv.weight
    rng = np.random.default_rng(0)
    pixels = {(w.row, w.column, w.channel): int(rng.integers(0, 256)) for w in stage.wires}
    inputs = [pixels[w.row, w.column, w.channel] for w in stage.wires]
    if not isinstance(stage, TransposedStage):
        wanted = sum(x * weight[w.row, w.column, w.channel] for x, w in zip(inputs, stage.wires, strict=True))
        assert stage.logic.evaluate(inputs) == wanted.tolist()
        return
    products = stage.products.evaluate(inputs)
    for link in stage.links:
        for o, k in link.products.items():
            taps = [weight[w.row + link.row, w.column + link.column, w.channel, o] for w in stage.wires]
            assert products[k] == int(np.dot(inputs, taps))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="processor time of a search (default 10)")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--check", action="store_true", help="exit 1 unless the transposed form saves 18 %%")
    arguments = parser.parse_args()
    known = json.loads(PEERS.read_text())["rows"]
    (peers,) = (row["peer"] for row in known if (row["group"], row["name"]) == ("dyadic", MATRIX))
    program, rows = layer(), list[Row]()
    print(f"the peers' best for the direct form: {peers['adders']} additions ({peers['setting']})")
    print(f"{'form':16} {'additions':>9} {'gain':>8} {'kept bits':>9} {'LUTs by the model':>17}")
    for form in FORMS:
        row = measure(program, form, peers["adders"], arguments.seconds)
        rows.append(row)
        print(f"{row.form:16} {row.adders:9} {row.gain:+8.1%} {row.kept_bits:9} {row.luts_model:17}", flush=True)
    if arguments.json:
        found = {**origin(), "seconds": arguments.seconds, "peers": peers, "rows": [vars(row) for row in rows]}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    best = next(row for row in rows if row.form == "transposed")
    return int(arguments.check and best.gain > ASKED)


if __name__ == "__main__":
    sys.exit(main())
