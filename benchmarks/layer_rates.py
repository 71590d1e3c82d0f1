"""Which layers run below a share of the machine's peak, and what bounds them, in figures.

`python -m benchmarks.layer_rates [--networks vgg16-cifar,resnet50] [--densities 0.1,0.2] [--json FILE]`
Each layer's time in its place in the network stands beside what it would take if one thing alone were to limit it:
arithmetic at the measured peak; its register tiles, which issue loads and wait for sums besides; the loops around them;
the bytes of its weights, and of its maps, read once, at the measured speed of the memory that holds them.  `alone`: run
again and again by itself.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.models import network_file
from benchmarks.results import origin

if TYPE_CHECKING:
    from lhcc.ir.layer import ConvLayer, Packed
    from lhcc.runtime.executable import Executable
    from lhcc.runtime.peak import Peak
    from lhcc.runtime.program import Call
    from lhcc.targets.base import Options, Pass
    from lhcc.targets.cpu.pack import Problem

NETWORKS = "vgg16-cifar,resnet18-cifar,resnet34,resnet50"
SHOWN = 0.01  # of the network's time: shorter layers are left out
ENOUGH = 0.70  # of the peak
REPEATS = 40
Times = list[tuple[float, float]]
Cycles = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Bounds:
    """Microseconds that a layer would take at least, were it only for this."""

    arithmetic: float
    tile: float  # register tiles: multiply-adds, loads and waiting for sums, without what surrounds the innermost loop
    loops: float  # the same with what surrounds it, as the cost model estimates that
    weights: float
    maps: float


@dataclass(frozen=True)
class Rate:
    """A layer that took `time_us` of its network's time, and why not less."""

    layer: str
    op: str
    schedule: str
    time_us: float
    alone_us: float
    share: float
    gflops: float
    peak: float  # share of the peak
    weight_bytes: int
    map_bytes: int
    bounds: Bounds
    lost_us: dict[str, float]  # beyond arithmetic, by cause


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=NETWORKS)
    parser.add_argument("--densities", default="0.1,0.2")
    passes = "times that all networks are measured, of which the fastest counts (default 3)"
    parser.add_argument("--passes", type=int, default=3, help=passes)
    parser.add_argument("--all", action="store_true", help="also the layers that are fast enough")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    from lhcc.runtime.peak import measure

    cases = [(name, density) for name in args.networks.split(",") for density in map(float, args.densities.split(","))]
    networks = {case: compiled(network_file(*case)) for case in cases}
    times: dict[tuple[str, float], Times] = {}
    limit = measure(1)
    for _ in range(args.passes):
        limit = max(limit, measure(1), key=lambda peak: peak.gflops)
        for case, (executable, _) in networks.items():
            found = layer_times(executable)
            times[case] = min(found, times.get(case, found), key=total_us)
    speeds = ", ".join(f"{size >> 10} KB: {speed:.0f} GB/s" for size, speed in limit.bandwidths)
    print(f"peak {limit.gflops:.0f} GFLOP/s; read again and again, {speeds}")
    written = []
    for (name, density), timed in times.items():
        rates, total = layer_rates(*networks[name, density], timed, limit), total_us(timed)
        shown = [rate for rate in rates if rate.share >= SHOWN and (args.all or rate.peak < ENOUGH)]
        print(f"\n{name}, density {density:g}: {total:.0f} us\n{table(shown)}")
        layers = list(map(asdict, shown))
        written.append({"network": name, "density": density, "time_us": total, "layers": layers})
    if args.json:
        settings = {"threads": 1, "passes": args.passes}
        record = {"benchmark": "layer_rates", **origin(), **settings, "peak": asdict(limit), "networks": written}
        args.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def total_us(times: Times) -> float:
    return sum(time for time, _ in times)


def layer_times(executable: Executable) -> Times:
    """Microseconds of every layer in the order of execution, on one thread: in its place, and alone."""
    from lhcc.runtime.profile import profile, replay

    inputs = executable.random_inputs()
    in_place = [layer.time_us for layer in profile(executable, inputs).layers]
    alone = [median(replay([call])[0] for _ in range(REPEATS)) for call in executable.calls(*inputs)]
    return list(zip(in_place, alone, strict=True))


def layer_rates(executable: Executable, cycles: Cycles, times: Times, limit: Peak) -> list[Rate]:
    """What these times of a network's layers mean; `cycles` is of `compiled`."""
    hertz = limit.gflops * 1e9 / flops_per_cycle()
    held = sum(map(weight_bytes, executable.program.calls))
    rates = []
    for layer, call, (time, alone) in zip(executable.layers, executable.program.calls, times, strict=True):
        weights, maps = weight_bytes(call), map_bytes(call)
        arithmetic = 2 * layer.macs_kept / limit.gflops / 1e3
        tile, loops = (max(arithmetic, 1e6 * count / hertz) for count in cycles.get(layer.name, (0.0, 0.0)))
        bounds = Bounds(
            arithmetic,
            tile,
            loops,
            weights / limit.bandwidth(held) / 1e3,
            maps / limit.bandwidth(maps) / 1e3,
        )
        rate = 2 * layer.macs_kept / time / 1e3
        rates.append(
            Rate(layer.name, layer.op, layer.schedule, time, alone, time / total_us(times), rate, rate / limit.gflops,
                 weights, maps, bounds, losses(time, alone, bounds))
        )  # fmt: skip
    return rates


def losses(time_us: float, alone_us: float, bounds: Bounds) -> dict[str, float]:
    """The microseconds beyond arithmetic, by cause; together they are what the layer took longer.

    Its register tiles come first: they are known.  Memory costs what the layer takes less when it runs alone, or what
    its bytes take longer than its tiles do; the loops cost what is estimated.  What is left is "near": maps that are
    read more than once, from the first-level cache or the second.
    """
    left = max(time_us, bounds.arithmetic) - bounds.arithmetic
    memory = "weights" if bounds.weights > bounds.maps else "maps"
    known = {
        "tile": bounds.tile - bounds.arithmetic,
        memory: max(time_us - alone_us, bounds.weights + bounds.maps - bounds.tile),
        "loops": bounds.loops - bounds.tile,
    }
    found = {}
    for cause, lost in known.items():
        found[cause] = min(left, max(0.0, lost))
        left -= found[cause]
    return {**found, "near": left}


def causes(lost: dict[str, float]) -> str:
    """Those that cost a quarter of what is lost, or more."""
    ranked = sorted(lost, key=lambda cause: -lost[cause])
    return ", ".join(f"{cause} {lost[cause]:.0f}" for cause in ranked if lost[cause] >= sum(lost.values()) / 4)


def weight_bytes(call: Call) -> int:
    return sum(operand.nbytes for operand in call.operands if operand.kind == "weights")


def map_bytes(call: Call) -> int:
    """The maps read, and the one written, which is read first and written back later."""
    maps = [operand.nbytes for operand in call.operands if operand.kind != "weights"]
    return sum(maps) + maps[-1]


def flops_per_cycle() -> float:
    from lhcc.targets.cpu.machine import create

    machine = create({})
    return 2 * machine.fma * machine.lanes


def compiled(model: Path) -> tuple[Executable, Cycles]:
    """The network, and of every layer in tiles of weights the cycles of its innermost loops, and of all loops."""
    from lhcc.compiler import Source, compile_floats, make_options
    from lhcc.frontend import import_model
    from lhcc.passes.pack_tiles import PackTiles
    from lhcc.targets.cpu.pack import Problem
    from lhcc.targets.cpu.target import CpuTarget, create

    cycles: Cycles = {}

    class Noting(CpuTarget):
        """The CPU, telling how each layer is divided."""

        def layout_passes(self, options: Options) -> list[Pass]:
            passes = super().layout_passes(options)
            return [self.noting(p, options) if isinstance(p, PackTiles) else p for p in passes]

        def noting(self, packing: PackTiles, options: Options) -> PackTiles:
            def pack(layer: ConvLayer) -> Packed:
                cycles[layer.name] = estimated(Problem(layer, self.machine, options))
                return packing.pack(layer)

            return PackTiles(pack)

    target: Any = Noting(create({}).machine)
    source = Source(target, make_options({}), mod=import_model(str(model)))
    return compile_floats(source), cycles


def estimated(problem: Problem) -> tuple[float, float]:
    """Cycles of the innermost loops alone, and of all loops, as the compiler divides the layer."""
    from lhcc.targets.cpu import cost
    from lhcc.targets.cpu.choice import CHAINS
    from lhcc.targets.cpu.pack import preferred
    from lhcc.targets.cpu.tiling import divisions

    machine, choice = problem.machine, preferred(problem)[0].choice
    named = choice.vectors, choice.depth, choice.dense, choice.merged
    form = next(f for f in problem.forms() if (f.vectors, f.depth, f.dense, f.merged) == named)
    divided = divisions(problem.axes, problem.pixels(form.vectors), form.merged)
    chains = min(CHAINS[0], machine.accumulators(form.vectors))
    chosen = (divided.heights == choice.height) & (divided.widths == choice.width)
    inside, around = (count(divided, form, machine, chains)[chosen][0] for count in (cost.issue, cost.cycles))
    images = problem.layer.image[0]
    return float(inside) * images, float(around) * images


def table(rates: list[Rate]) -> str:
    from lhcc.report.text import grid

    header = ["layer", "time us", "alone", "share", "GFLOP/s", "% peak", "weights KB", "maps KB",
              "arithmetic us", "tile", "loops", "weights", "maps", "lost to, us"]  # fmt: skip
    return grid(header, [_cells(rate) for rate in rates]) if rates else "none"


def _cells(rate: Rate) -> list[Any]:
    bounds = asdict(rate.bounds).values()
    return [
        rate.layer,
        *(f"{value:.1f}" for value in (rate.time_us, rate.alone_us)),
        f"{rate.share:.1%}",
        f"{rate.gflops:.1f}",
        f"{rate.peak:.0%}",
        *(f"{size / 1024:.0f}" for size in (rate.weight_bytes, rate.map_bytes)),
        *(f"{value:.1f}" for value in bounds),
        causes(rate.lost_us),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
