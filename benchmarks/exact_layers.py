"""The same integers everywhere: random dyadic layers over the numpy program, both forms of the CPU, and circuits.

`python -m benchmarks.exact_layers [--count 200] [--seed 0] [--circuits 200]`: every layer runs as the reference
program, as byte products, as literal shifts and additions, and, simulated by Verilator, as an unrolled circuit.
`--networks [NAME ...]`: instead, the trained digits networks (all of them), made dyadic, on their held-out images.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.masks import lhc
from lhcc.integer import Builder, Program

Ints = NDArray[np.int64]
WEIGHTS = (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, 6, -6, 8, 12, -16)


def layer(seed: int) -> Program:
    """A convolution (or a dense layer) of one or two signed digits a weight, LHC-masked or dense, requantised."""
    rng = np.random.default_rng(seed)
    b = Builder()
    outputs = int(rng.integers(1, 21))
    if rng.random() < 0.2:
        inputs = int(rng.integers(1, 41))
        x = b.input("x", (inputs,), 8, 4, signed=bool(rng.integers(2)))
        return b.build(b.dense("y", x, rng.choice(WEIGHTS, (inputs, outputs)), rng.integers(-99, 99, outputs), 3))
    height, width, inputs, kernel = (int(rng.integers(*ends)) for ends in ((3, 9), (3, 9), (1, 9), (1, 4)))
    x = b.input("x", (height, width, inputs), 8, 4, signed=bool(rng.integers(2)))
    weight = rng.choice(WEIGHTS, (kernel, kernel, inputs, outputs))
    if rng.integers(2):
        weight = weight * lhc(rng, (outputs, inputs, kernel, kernel), 0.5, 4, 4).transpose(2, 3, 1, 0).astype(np.int64)
    pad = int(rng.integers(0, (kernel + 1) // 2))
    stride = int(rng.integers(1, 3))
    y = b.conv("y", x, weight, rng.integers(-99, 99, outputs), 3, (stride, stride), (pad,) * 4)
    return b.build(b.requantise("q", b.relu("relu", y), int(rng.integers(0, 7)), 0, 255))


def inputs_of(program: Program, seed: int, images: int = 2) -> Ints:
    kind = program.types[program.inputs[0].name]
    return np.random.default_rng(seed).integers(kind.low, kind.high + 1, (images, *kind.shape))


def on_cpu(program: Program, x: Ints, arith: str) -> Ints:
    """Integers in, integers out, as the reference takes and gives them."""
    import lhcc

    executable = lhcc.compile(program, "cpu", io="integer", arith=arith)
    (kind,) = executable.inputs
    planar = np.moveaxis(x, -1, 1) if x.ndim == 4 else x
    images = [executable(np.ascontiguousarray(image[None].astype(kind.dtype))) for image in planar]
    y = np.concatenate([np.asarray(image) for image in images]).astype(np.int64)
    return np.moveaxis(y, 1, -1) if y.ndim == 4 else y


def in_circuit(program: Program, x: Ints) -> Ints:
    from lhcc.targets.fpga import FpgaOptions, compile_program

    run: Any = compile_program(program, FpgaOptions(reuse=1)).simulate(x)
    return np.asarray(run.outputs[0])


def compare_network(name: str, which: str, images: int | None) -> int:
    """Prints how many integers of a digits network differ from the reference's; returns that."""
    from benchmarks.dyadic_digits import FOLDER, data
    from lhcc.approximation import approximate
    from lhcc.approximation.quantise import quantise

    calibration, held_out, _ = data()
    program = quantise(approximate(str(FOLDER / f"{name}.onnx"), set=which, calibrate=calibration), calibration)
    (x,) = program.quantise(held_out[:images])
    (want,) = program.run(x)
    wrong = {arith: int(np.count_nonzero(on_cpu(program, x, arith) != want)) for arith in ("multiply", "shift")}
    found = ", ".join(f"{count} differ as {arith}" for arith, count in wrong.items())
    print(f"{name}, {which}: {len(x)} images, {want.size:,} integers: {found}", flush=True)
    return sum(wrong.values())


def differing(seed: int, circuit: bool) -> list[str]:
    """The forms whose integers are not those of the reference."""
    program = layer(seed)
    x = inputs_of(program, seed)
    (want,) = program.run(x)
    found = {arith: on_cpu(program, x, arith) for arith in ("multiply", "shift")}
    if circuit:
        found["circuit"] = in_circuit(program, x)
    return [name for name, got in found.items() if not np.array_equal(got, want)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="layers (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the first layer")
    parser.add_argument("--circuits", type=int, help="layers that are also simulated as circuits (default: all)")
    parser.add_argument("--networks", nargs="*", metavar="NAME", help="the digits networks instead of layers")
    parser.add_argument("--set", default="digits:2:4", help="of the networks' weights (default digits:2:4)")
    parser.add_argument("--images", type=int, help="of the held-out ones (default: all)")
    args = parser.parse_args(arguments)
    if args.networks is not None:
        from benchmarks.dyadic_digits import FOLDER

        names = args.networks or [path.stem for path in sorted(FOLDER.glob("*.onnx"))]
        return int(sum(compare_network(name, args.set, args.images) for name in names) > 0)
    circuits = args.count if args.circuits is None else args.circuits
    wrong = 0
    for k in range(args.count):
        names = differing(args.seed + k, k < circuits)
        wrong += bool(names)
        if names:
            print(f"layer {args.seed + k}: {', '.join(names)} differs from the reference", flush=True)
    print(f"{args.count} layers, {min(circuits, args.count)} of them also as circuits: {wrong} differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
