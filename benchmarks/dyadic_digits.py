"""What dyadic weights cost the digits networks: `python -m benchmarks.dyadic_digits [--json OUT] [--plot OUT]`.

For every network of examples/digits and every set of weights: additions per inference, accuracy on the held-out images
with dyadic weights in floating point, and of the integer program with 8-bit activations. Every scale is a power of two,
so no multiplication is left. The last block is the whole Pareto path of one network: a set per layer, chosen by
sensitivity. Biases are corrected on training images; no weight is trained, and held-out images take part in no choice.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from lhcc.approximation import approximate
from lhcc.approximation.calibrate import run
from lhcc.approximation.quantise import quantise

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "digits"
SETS = ("ternary", "two", "half", "digits:2:4", "digits:2:5", "digits:3:6")


@dataclass
class Row:
    """One network with one set: correct answers out of `images`, before, dyadic, and dyadic with integers."""

    network: str
    set: str
    scale: str
    multiplications_before: int
    additions: int
    digits_per_weight: float
    relative_error: float
    images: int
    correct_float: int
    correct_dyadic: int
    correct_integer: int
    widest_sum: int

    @property
    def drop(self) -> float:
        """Points lost by the integer program."""
        return 100 * (self.correct_float - self.correct_integer) / self.images


def data() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Calibration images (of the training part), held-out images and their labels."""
    from sklearn.datasets import load_digits

    with np.load(FOLDER / "held_out.npz") as stored:
        held, labels = stored["pixels"].astype(np.float32)[:, None] / np.float32(16), stored["labels"].astype(np.int64)
    every = (load_digits().images / 16).astype(np.float32)[:, None]
    seen = {image.tobytes() for image in held}
    return np.stack([image for image in every if image.tobytes() not in seen]), held, labels


def correct(scores: Any, labels: NDArray[np.int64]) -> int:
    return int((np.asarray(scores).reshape(len(labels), -1).argmax(axis=1) == labels).sum())


def measure(path: Path, which: str, scale: Any, bits: int, images: Sequence[Any]) -> Row:
    calibration, x, labels = images
    model = onnx.load(path)
    answer = approximate(model, set=which, scale=scale, calibrate=calibration)
    program = quantise(answer, calibration, bits=bits)
    rows = answer.report.layers
    return Row(
        path.stem,
        which,
        scale,
        answer.report.multiplications_before,
        answer.report.additions,
        sum(row.digits for row in rows) / max(sum(row.nonzeros for row in rows), 1),
        answer.report.error,
        len(labels),
        correct(run(model, x)[0], labels),
        correct(run(answer.model, x)[0], labels),
        correct(program(x), labels),
        max(kind.bits for kind in program.types.values()),
    )


def pareto(path: Path, images: Sequence[Any], plot: Path | None) -> list[dict[str, Any]]:
    """Points of the budget's path: additions, weight error, accuracy lost on the held-out images."""
    calibration, x, labels = images
    model = onnx.load(path)
    base = correct(run(model, x)[0], labels)
    path_points = approximate(model, sets=SETS, max_error=1.0, calibrate=calibration).report.pareto
    points = []
    for k in sorted({int(i) for i in np.linspace(0, len(path_points) - 1, 12)}):
        found = approximate(model, sets=SETS, max_adds=path_points[k].additions, calibrate=calibration)
        if k == 0 and plot is not None:
            found.report.plot(plot)
        points.append(
            {
                "additions": found.report.additions,
                "error": found.report.error,
                "drop": 100 * (base - correct(run(found.model, x)[0], labels)) / len(labels),
                "sets": [row.set for row in found.report.layers],
            }
        )
    return points


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=[p.stem for p in sorted(FOLDER.glob("*.onnx"))])
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--scale", choices=("shift", "folded"), default="shift")
    parser.add_argument("--bits", type=int, default=8, help="bits of an activation")
    parser.add_argument("--pareto", default="vgg_lhc_free", help="the network whose whole path is shown; '' for none")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args(arguments)
    images = data()
    rows = []
    print("network            set          additions  digits/w  error   float  dyadic  integer  drop   sums")
    for network in args.networks:
        for which in args.sets:
            row = measure(FOLDER / f"{network}.onnx", which, args.scale, args.bits, images)
            rows.append(row)
            share = [100 * count / row.images for count in (row.correct_float, row.correct_dyadic, row.correct_integer)]
            print(
                f"{network:18} {which:12} {row.additions:9,} {row.digits_per_weight:9.2f} {row.relative_error:6.3f}"
                f"  {share[0]:6.2f} {share[1]:7.2f} {share[2]:8.2f} {row.drop:+5.2f}   {row.widest_sum} bits",
                flush=True,
            )
    points = pareto(FOLDER / f"{args.pareto}.onnx", images, args.plot) if args.pareto else []
    for point in points:
        print(
            f"{args.pareto}: {point['additions']:9,} additions, error {point['error']:.3f}, drop {point['drop']:+.2f}"
        )
    if args.json:
        report = {
            "bits": args.bits,
            "scale": args.scale,
            "rows": [asdict(row) | {"drop": row.drop} for row in rows],
            "pareto": {"network": args.pareto, "points": points},
        }
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
