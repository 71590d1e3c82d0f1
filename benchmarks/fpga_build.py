"""How long until the first simulated image, and how many cycles a second?  `python -m benchmarks.fpga_build`

One unrolled dyadic 3x3 layer of about 500 and one of about 5,000 additions, and a digits network from its ONNX file.
Asked for: 500 additions under 5 s and at least 0.5 million cycles a second; 5,000 under 10 s; digits under 30 s.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from lhcc.integer import Builder, Program
from lhcc.targets.fpga import FpgaExecutable, FpgaOptions, compile_program

DIGITS = Path(__file__).parents[1] / "examples" / "digits"
LAYERS = {"500 additions": (16, 0.27, 5.0, 0.5), "5,000 additions": (46, 0.47, 10.0, 0.0)}
"""name: channels in and out, density, seconds, million cycles per second"""


def layer(channels: int, density: float) -> Program:
    rng = np.random.default_rng(0)
    shape = (3, 3, channels, channels)
    weight = rng.choice([1, -1, 2, -2], shape) * (rng.random(shape) < density)
    b = Builder()
    x = b.conv("conv", b.input("image", (32, 32, channels), 8, 0), weight, padding=(1, 1, 1, 1))
    return b.build(b.requantise("round", x, 6, 0, 255))


def simulated(exe: FpgaExecutable, images: int) -> dict[str, object]:
    """Seconds until the first image is through, then the speed of many, for which large designs are built again,
    optimised; the answer is checked."""
    start = time.perf_counter()
    types = [exe.program.types[s.name] for s in exe.program.inputs]
    rng = np.random.default_rng(1)
    one = [rng.integers(t.low, t.high + 1, (1, *t.shape)) for t in types]
    first = exe.simulate(*one)
    ready = time.perf_counter() - start
    assert all((a == b).all() for a, b in zip(first.outputs, exe.program.run(*one), strict=True))
    many = [np.repeat(x, images, axis=0) for x in one]
    start = time.perf_counter()
    exe.simulation(images=images)
    again = time.perf_counter() - start
    start = time.perf_counter()
    speed = exe.simulate(*many).cycles / (time.perf_counter() - start) / 1e6
    return {"build_s": ready, "build_again_s": again, "million_cycles_per_s": speed}


def digits() -> dict[str, object]:
    from lhcc.approximation import approximate
    from lhcc.approximation.quantise import quantise

    x = np.load(DIGITS / "held_out.npz")["pixels"].astype(np.float32)[:, None] / np.float32(16)
    start = time.perf_counter()
    model = approximate(str(DIGITS / "vgg_lhc_rigid.onnx"), set="digits:2:5")
    exe = compile_program(quantise(model, calibrate=x[::4]), FpgaOptions(device="xc7a200t"))
    exe.simulate(*exe.program.quantise(x[:1]))
    return {"case": "digits", "build_s": time.perf_counter() - start, "asked_s": 30.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure asked for is missed")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    compile_program(layer(2, 1.0), FpgaOptions(reuse=1)).simulation()  # Verilator's runtime, compiled once and kept
    for name, (channels, density, seconds, speed) in LAYERS.items():
        if arguments.only in name:
            start = time.perf_counter()
            exe = compile_program(layer(channels, density), FpgaOptions(reuse=1, max_luts=1_000_000))
            placed = time.perf_counter() - start
            additions = sum(r.adds for r in exe.profile(synthesis=False).layers) // 1024
            row = {"case": name, "additions": additions, "place_s": placed}
            rows.append(row | simulated(exe, 100) | {"asked_s": seconds, "asked_speed": speed})
            print(json.dumps(rows[-1]), flush=True)
    if arguments.only in "digits":
        rows.append(digits())
        print(json.dumps(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    missed = [r["case"] for r in rows if _missed(r)]
    return int(arguments.check and bool(missed))


def _missed(row: dict[str, object]) -> bool:
    figures = {k: float(v) for k, v in row.items() if isinstance(v, int | float)}
    return figures["build_s"] > figures["asked_s"] or figures.get("million_cycles_per_s", 1e9) < figures.get(
        "asked_speed", 0
    )


if __name__ == "__main__":
    sys.exit(main())
