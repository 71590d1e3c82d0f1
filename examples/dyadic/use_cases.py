"""A detector, a digit network and AlexNet's layers without multiplications: python -m examples.dyadic.use_cases.

The networks are approximated after training, on their training images; accuracy is on images that took part in nothing.
Additions are those of one inference, as written and after sharing within blocks of sixteen outputs, as `--arith shift`
computes them.  AlexNet's layers have random weights: they show what the approximation costs, not what it keeps.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from examples.digits.data import held_out, split
from examples.dyadic.data import pictures
from lhcc.approximation import approximate, named_set
from lhcc.approximation.calibrate import run
from lhcc.approximation.quantise import quantise
from lhcc.approximation.weights import candidate
from lhcc.integer import Conv, Dense

HERE = Path(__file__).resolve().parent
SETS = ("half", "digits:2:4", "digits:3:6")
# filters, inputs of a group, kernel size and outputs per filter of AlexNet as published; fc6 as 6x6 kernels
ALEXNET = {
    "conv1": (96, 3, 11, 55 * 55), "conv2": (256, 48, 5, 27 * 27), "conv3": (384, 256, 3, 13 * 13),
    "conv4": (384, 192, 3, 13 * 13), "conv5": (256, 192, 3, 13 * 13), "fc6": (4096, 256, 6, 1),
}  # fmt: skip


def data(name: str) -> tuple[Any, Any, Any]:
    """Training images, held-out images, and the labels of those."""
    if name == "digits":
        return split()[0], *held_out()
    return pictures(4000, 1)[0], *pictures(2000, 2)


def share(scores: Any, labels: Any) -> float:
    return 100 * float((np.asarray(scores).reshape(len(labels), -1).argmax(axis=1) == labels).mean())


def network(name: str, chosen: str) -> str:
    """One line of the table."""
    from lhcc.targets.cpu.int_shift_code import Additions

    model = onnx.load(HERE / f"{name}.onnx")
    calibration, x, labels = data(name)
    dyadic = approximate(model, set=chosen, calibrate=calibration)
    program = quantise(dyadic, calibration)
    layers = [step for step in program.instructions if isinstance(step, (Conv, Dense))]
    constants = map(onnx.numpy_helper.to_array, model.graph.initializer)
    weights = sum(int(array.size) for array in constants if array.dtype.kind == "f")
    shared = sum(
        Additions.of(step, program.types[step.inputs[0]]).count * int(np.prod(program.types[step.name].shape[:-1]))
        for step in layers
    )
    before, additions = dyadic.report.multiplications_before, dyadic.report.additions
    accuracies = share(run(model, x)[0], labels), share(run(dyadic.model, x)[0], labels), share(program(x), labels)
    return (
        f"{name:9} {weights:8,} {chosen:11} {before:10,} -> 0 {additions:10,} {shared:10,}"
        f"  {accuracies[0]:6.2f} {accuracies[1]:7.2f} {accuracies[2]:8.2f}"
    )


def alexnet(name: str, chosen: str) -> tuple[str, int, float]:
    """One line of the second table; kernels, and seconds of one core."""
    filters, inputs, size, positions = ALEXNET[name]
    weight = np.random.default_rng(0).normal(size=(filters, inputs, size * size)) * 0.05
    start = time.process_time()
    found = candidate(weight, named_set(chosen), "shift", "kernel", 8)
    seconds = time.process_time() - start
    multiplications = weight.size * positions
    line = (
        f"{name:9} {filters * inputs:9,} {chosen:11} {multiplications:13,} -> 0 {found.additions * positions:13,}"
        f"  {found.relative_error:6.3f} {seconds:8.1f} s"
    )
    return line, filters * inputs, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--alexnet", action="store_true", help="AlexNet's layers too")
    args = parser.parse_args()
    print("network   weights  set         multiplications  additions     shared   float  dyadic  integer")
    for name in ("detector", "digits"):
        for chosen in args.sets:
            print(network(name, chosen), flush=True)
    if args.alexnet:
        print("\nlayer       kernels set           multiplications     additions   error        time")
        for chosen in args.sets:
            kernels, seconds = 0, 0.0
            for name in ALEXNET:
                line, more, longer = alexnet(name, chosen)
                kernels, seconds = kernels + more, seconds + longer
                print(line, flush=True)
                if name in ("conv5", "fc6"):
                    print(f"so far    {kernels:9,} {chosen:11} {seconds:57.1f} s")


if __name__ == "__main__":
    main()
