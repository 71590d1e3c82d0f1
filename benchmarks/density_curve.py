"""Speed-up over dense against density, for a 3x3 and a 1x1 layer with learned kernel shapes: a table and a picture.

Four layers stand in a row, as in a network: converting the input and the output then weighs as little as it does there.

`python -m benchmarks.density_curve [--plot docs/density.svg] [--threads 1] [--json FILE]`
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import masks
from benchmarks.measure import runtime_peer
from benchmarks.models import CACHE, LayerShape, stack, write
from benchmarks.results import speed_up
from benchmarks.session import Session, parser

LAYERS = {"3x3": LayerShape(256, 256, 3, 14), "1x1": LayerShape(512, 512, 1, 14)}
IN_A_ROW = 4
DENSITIES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
QUICK = (0.1, 0.5, 1.0)
NEVER_SLOWER_THAN = 0.97


@dataclass(frozen=True)
class Curve:
    """Speed-ups of one layer at rising densities, the last of which is 1; None where a peer failed."""

    name: str
    densities: list[float]
    over_dense: list[float | None]
    over_rival: list[float | None]


def break_even(densities: Sequence[float], speeds: Sequence[float | None]) -> float | None:
    """The lowest density from which skipping zeros no longer pays: where the curve first falls to 1.

    Linear in the logarithms between two points; None when it pays up to the last point.
    """
    before: tuple[float, float] | None = None
    for density, speed in zip(densities, speeds, strict=True):
        if speed is None:
            continue
        if speed <= 1:
            if before is None or before[1] <= 1:
                return density
            share = math.log(before[1]) / (math.log(before[1]) - math.log(speed))
            return math.exp(math.log(before[0]) + share * (math.log(density) - math.log(before[0])))
        before = density, speed
    return None


def draw(curves: Sequence[Curve], path: Path, title: str) -> None:
    """Both axes logarithmic: the ideal 1 / density is a straight line."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter

    # Text stays text and ids do not change from run to run: the picture is small and its diff readable.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "lhcc", "font.size": 10})
    figure, axes = pyplot.subplots(1, len(curves), figsize=(5 * len(curves), 4), sharey=True, squeeze=False)
    for axis, curve in zip(axes[0], curves, strict=True):
        ideal = [1 / density for density in curve.densities]
        axis.plot(curve.densities, ideal, "--", color="0.6", label="ideal, 1 / density")
        for speeds, label, colour in (
            (curve.over_dense, "over our dense kernel", "#0b6e99"),
            (curve.over_rival, "over ONNX Runtime", "#c4511d"),
        ):
            found = [(d, s) for d, s in zip(curve.densities, speeds, strict=True) if s is not None]
            if found:
                axis.plot(*zip(*found, strict=True), "o-", color=colour, markersize=4, label=label)
        axis.axhline(1, color="0.3", linewidth=0.8)
        even = break_even(curve.densities[:-1], curve.over_dense[:-1])
        if even is not None:
            axis.plot([even], [1], "D", color="black", markersize=6)
        told = f"pays up to {curve.densities[-2]:g}" if even is None else f"break-even {even:.2f}"
        axis.annotate(told, (even or 1, 1), (-6, -16), textcoords="offset points", ha="right")
        axis.set(xscale="log", yscale="log", xlabel="density (share of weights kept)", title=curve.name)
        for ticks, values in ((axis.xaxis, (0.05, 0.1, 0.2, 0.5, 1)), (axis.yaxis, (0.5, 1, 2, 5, 10, 20))):
            ticks.set_ticks(values)
            ticks.set_ticks([], minor=True)
            ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.grid(color="0.9")
    axes[0][0].set_ylabel("speed-up")
    axes[0][0].legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def _file(shape: LayerShape, density: float) -> Path:
    path = CACHE / f"stack{IN_A_ROW}-{shape}-lhc{density:g}.onnx"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    drawn = [masks.lhc(rng, shape.weight_shape, density) if density < 1 else None for _ in range(IN_A_ROW)]
    return write(stack(shape, drawn), path)


def _curve(session: Session, name: str, shape: LayerShape, threads: int) -> Curve:
    """All densities of one layer in one interleaved run, so that every point divides by the same dense baseline."""
    densities = list(QUICK if session.quick else DENSITIES)
    peers = []
    for density in densities:
        file = _file(shape, density)
        peers += [runtime_peer(r, file, threads, name=f"{r} {density:g}") for r in ("onnxruntime", "lhcc")]
    case = session.measure(
        f"{name}, {shape}, four in a row, by density", peers, threads, layer=name, densities=densities
    )
    ours = [case.result(f"lhcc {density:g}") for density in densities]
    theirs = [case.result(f"onnxruntime {density:g}") for density in densities]
    curve = Curve(
        f"{name}, {shape.inputs} to {shape.outputs} channels, {shape.size}x{shape.size}",
        densities,
        [speed_up(ours[-1], point) for point in ours],
        [speed_up(rival, point) for rival, point in zip(theirs, ours, strict=True)],
    )
    measured = [speed for speed in curve.over_dense[:-1] if speed is not None]
    if measured:
        even = break_even(densities[:-1], curve.over_dense[:-1])
        print(f"  {'pays at every density' if even is None else f'break-even at density {even:.2f}'}")
    slowest = min(measured, default=None)
    session.ask(f"{name}: slowest density against our dense kernel", slowest, NEVER_SLOWER_THAN)
    return curve


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--plot", type=Path, metavar="FILE", help="an .svg or .png")
    options.set_defaults(threads="1", rounds=6, slice=0.2)
    args = options.parse_args()
    session = Session("density_curve", args)
    threads = session.thread_counts[0]
    curves = [_curve(session, name, shape, threads) for name, shape in LAYERS.items()]
    if args.plot is not None:
        cpu = session.report.origin["machine"]["cpu"]
        draw(curves, args.plot, f"Layers in a row, batch 1, fp32, {threads} thread{'s' if threads > 1 else ''}, {cpu}")
    return session.finish()


if __name__ == "__main__":
    raise SystemExit(main())
