"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lhcc.runtime.compare import Comparison
    from lhcc.runtime.profile import LayerTime, Profile


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Columns as wide as their widest cell; the first `left` are flush left, the others flush right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = [c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(placed).rstrip()

    return "\n".join([line(header), line(["-" * width for width in widths]), *map(line, rows)])


def quantity(value: float) -> str:
    """A count with three digits: 950, 12.3k, 4.56M, 7.89G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}" if value < 999.5 * size else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def microseconds(time_us: float) -> str:
    """Three digits or more."""
    return f"{time_us:.1f}" if time_us >= 10 else f"{time_us:.2f}"


def table(profile: Profile) -> str:
    """The profile, one line per layer, the sum beside the time of the whole."""
    header, rows = layer_rows(profile)
    return f"{grid(header, rows, left=3)}\n\n{summary(profile)}"


def layer_rows(profile: Profile) -> tuple[list[str], list[list[str]]]:
    """The header and the cells of the table."""
    header = [
        "layer",
        "op",
        "encoding",
        "density",
        "MACs",
        "computed",
        "time us",
        "+-",
        "share",
        "GFLOP/s",
        "% peak",
        "% bw",
    ]
    return [*header, "bound"], [_cells(layer) for layer in profile.layers]


def _cells(layer: LayerTime) -> list[str]:
    peak, bandwidth = layer.peak_percent, layer.bandwidth_percent
    return [
        layer.name,
        layer.op,
        layer.encoding or "-",
        f"{layer.density:.2f}",
        quantity(layer.macs),
        quantity(layer.macs_kept),
        microseconds(layer.time_us),
        microseconds((layer.high_us - layer.low_us) / 2),
        f"{100 * layer.share:.1f}%",
        f"{layer.gflops:.1f}" if layer.gflops else "-",
        f"{peak:.0f}" if peak is not None and layer.gflops else "-",
        f"{bandwidth:.0f}" if bandwidth is not None else "-",
        layer.bound,
    ]


def summary(profile: Profile) -> str:
    """The totals, and on what they were measured."""
    macs = sum(layer.macs for layer in profile.layers)
    kept = sum(layer.macs_kept for layer in profile.layers)
    total = profile.total_us
    spread = (profile.total_high_us - profile.total_low_us) / 2
    accounted = profile.sum_us + profile.call_us
    parts = (
        f"sum of layers {profile.sum_us:.1f} us ({100 * (profile.sum_us / total - 1):+.1f} %), "
        f"with {profile.call_us:.1f} us to call the model {accounted:.1f} us ({100 * (accounted / total - 1):+.1f} %)"
    )
    plural = "s" * (profile.threads != 1)
    done = f"{quantity(kept)} of {quantity(macs)} multiply-adds are computed"
    if kept > macs:
        done = f"{quantity(kept)} multiply-adds are computed for {quantity(macs)}, as vectors are wider than its layers"
    text = [
        f"end to end {total:.1f} us (+- {spread:.1f}), {parts}",
        f"{done}, {2 * kept / total / 1e3:.1f} GFLOP/s end to end",
        f"{profile.repeats} repeats, {profile.threads} thread{plural}, {profile.target} on {profile.processor}",
    ]
    if profile.disturbed:
        text.append(f"{profile.disturbed} further repeats were interrupted by other processes and left out")
    if profile.peak:
        on_gpu = profile.target == "cuda"
        what = "peak of this GPU by its data sheet" if on_gpu else "measured fp32 peak of this machine"
        text.append(f"{what}: {profile.peak.gflops:.0f} GFLOP/s")
    return "\n".join(text)


def comparison(compared: Comparison) -> str:
    """The profile, with the other's time and the ratio behind each layer that both have."""
    header, rows = layer_rows(compared.profile)
    ours: dict[str, float] = {}
    for layer in compared.profile.layers:
        ours[layer.name] = ours.get(layer.name, 0.0) + layer.time_us
    shown = set()
    for layer, row in zip(compared.profile.layers, rows, strict=True):
        theirs = None if layer.name in shown else compared.other_layers.get(layer.name)
        shown.add(layer.name)
        row += ["-", "-"] if theirs is None else [f"{theirs:.1f}", f"{theirs / ours[layer.name]:.2f}x"]
    lines = [
        grid([*header, "other us", "speed-up"], rows, left=3),
        "",
        summary(compared.profile),
        f"taking turns with {compared.other}: {compared.total_us:.1f} us against {compared.other_total_us:.1f} us, "
        f"{compared.speedup:.2f} times as fast",
    ]
    return "\n".join(lines)
