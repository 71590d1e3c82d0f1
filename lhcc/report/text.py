"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lhcc.runtime.profile import Profile


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


def table(profile: Profile) -> str:
    """The profile, one line per layer, the sum beside the time of the whole."""
    header = [
        "layer",
        "op",
        "encoding",
        "density",
        "MACs",
        "kept",
        "time us",
        "+-",
        "share",
        "GFLOP/s",
        "% peak",
        "% bw",
    ]
    header.append("bound")
    rows = []
    for layer in profile.layers:
        spread = (layer.high_us - layer.low_us) / 2
        rows.append(
            [
                layer.name,
                layer.op,
                layer.encoding or "-",
                f"{layer.density:.2f}",
                quantity(layer.macs),
                quantity(layer.macs_kept),
                f"{layer.time_us:.1f}",
                f"{spread:.1f}",
                f"{100 * layer.share:.1f}%",
                f"{layer.gflops:.1f}" if layer.macs_kept else "-",
                "-" if layer.peak_percent is None or not layer.macs_kept else f"{layer.peak_percent:.0f}",
                "-" if layer.bandwidth_percent is None else f"{layer.bandwidth_percent:.0f}",
                layer.bound,
            ]
        )
    lines = [grid(header, rows, left=3), "", summary(profile)]
    return "\n".join(lines)


def summary(profile: Profile) -> str:
    """The totals, and on what they were measured."""
    macs = sum(layer.macs for layer in profile.layers)
    kept = sum(layer.macs_kept for layer in profile.layers)
    total = profile.total_us
    spread = (profile.total_high_us - profile.total_low_us) / 2
    difference = 100 * (profile.sum_us / total - 1)
    plural = "s" * (profile.threads != 1)
    text = [
        f"end to end {total:.1f} us (+- {spread:.1f}), sum of layers {profile.sum_us:.1f} us ({difference:+.1f} %)",
        f"{quantity(kept)} of {quantity(macs)} multiply-adds are kept, {2 * kept / total / 1e3:.1f} GFLOP/s end to end",
        f"{profile.repeats} repeats, {profile.threads} thread{plural}, {profile.target} on {profile.processor}",
    ]
    if profile.disturbed:
        text.append(f"{profile.disturbed} further repeats were interrupted by other processes and left out")
    if profile.peak:
        text.append(f"measured peak of this machine: {profile.peak.gflops:.0f} GFLOP/s")
    return "\n".join(text)
