"""How many cycles does an LHC VGG16 for 32x32 images take on the folded block array, and is the circuit exact?"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from lhcc.integer import Builder, Program
from lhcc.targets.fpga import FpgaOptions, compile_program
from lhcc.targets.fpga.synthesis import synthesised

PLAN = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
TWO_DIGITS = [v for v in range(1, 65) if bin(v).count("1") <= 2 or bin(v + (v & -v)).count("1") == 1]


def program(density: float, seed: int = 0, size: int = 32) -> Program:
    """Kept cells at random over all (tap, 32 inputs, 16 outputs) of a layer; weights of at most two signed digits."""
    rng = np.random.default_rng(seed)
    values = np.array([*TWO_DIGITS, *(-v for v in TWO_DIGITS)])
    b = Builder()
    x = b.input("image", (size, size, 3), 8, 8)
    channels, index = 3, 0
    for step in PLAN:
        if step == "M":
            x = b.max_pool(f"pool{index}", x, (2, 2))
            continue
        index += 1
        outputs = int(step)
        weight = rng.choice(values, (3, 3, channels, outputs))
        if index > 1:
            cells = 9 * -(-channels // 32) * -(-outputs // 16)
            keep = np.zeros(cells, np.int64)
            keep[rng.permutation(cells)[: max(1, round(density * cells))]] = 1
            mask = keep.reshape(3, 3, -(-channels // 32), -(-outputs // 16)).repeat(32, 2).repeat(16, 3)
            weight = weight * mask[:, :, :channels, :outputs]
        terms = max(1.0, float(np.count_nonzero(weight)) / outputs)
        shift = max(1, round(np.log2(float(np.abs(values).mean()) * np.sqrt(terms))))
        bias = rng.integers(0, 1 << shift + 5, outputs)
        x = b.conv(f"conv{index}", x, weight, bias, 6, padding=(1, 1, 1, 1))
        x = b.requantise(f"round{index}", b.relu(f"relu{index}", x), shift, 0, 255)
        channels = outputs
    x = b.requantise("mean", b.global_sum("sum", x), 2, 0, 255)
    return b.build(b.dense("head", b.flatten("flat", x), rng.choice(values, (channels, 10)), fraction=6))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--density", type=float, nargs="+", default=[0.1, 0.2])
    parser.add_argument("--simulate", action="store_true", help="one image through the circuit, compared bit for bit")
    parser.add_argument("--synthesise", action="store_true", help="LUTs and block memories by Yosys too (takes long)")
    parser.add_argument("--json", type=Path, help="write the rows here")
    arguments = parser.parse_args()
    results = []
    for density in arguments.density:
        start = time.perf_counter()
        exe = compile_program(program(density), FpgaOptions(reuse="folded", device="xc7vx690t"))
        placed = time.perf_counter() - start
        folding = exe.pipeline.stages[-1].folding  # type: ignore[union-attr]
        timing = exe.predict(2)
        row = {
            "density": density,
            "work": folding.work,
            "cycles": timing.interval,
            "ratio": timing.interval / folding.work,
            "utilisation": folding.work / timing.interval,
            "compile_s": placed,
            "luts_model": exe.area.luts,
            "block_memories_model": exe.area.block_memories,
        }
        if arguments.synthesise:
            start = time.perf_counter()
            areas = synthesised(exe.pipeline).values()
            row["luts_yosys"] = sum(a.luts for a in areas)
            row["block_memories_yosys"] = sum(a.block_memories for a in areas)
            row["synthesis_s"] = time.perf_counter() - start
        if arguments.simulate:
            start = time.perf_counter()
            exe.simulation()
            row["build_s"] = time.perf_counter() - start
            rng = np.random.default_rng(1)
            image = rng.integers(0, 256, (1, 32, 32, 3))
            start = time.perf_counter()
            run = exe.simulate(image)
            row["simulation_s"] = time.perf_counter() - start
            row["simulated_cycles"] = run.cycles
            row["predicted_cycles"] = exe.predict(1).cycles
            row["exact"] = bool((run.outputs[0] == exe.program.run(image)[0]).all())
            row["distinct_results"] = len(np.unique(run.outputs[0]))
        results.append(row)
        print(json.dumps(row))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
