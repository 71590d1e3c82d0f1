"""What changed between two runs of a benchmark: `python -m benchmarks.compare BEFORE.json AFTER.json [--check]`.

Milliseconds of two runs on a shared machine say little, so each peer is first divided, round by round, by the fastest
rival that both runs measured beside it.  A change counts when it exceeds 3 % and the middle halves of the rounds of the
two runs do not overlap.  --check exits 1 when lhcc became slower or stopped working.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Literal

from benchmarks.results import Case, Report, Result, fastest, ratios, read

NOTICEABLE = 0.03
Verdict = Literal["faster", "slower", "same", "broken", "fixed", "missing"]


@dataclass(frozen=True)
class Change:
    """One peer of one case in both runs."""

    case: str
    peer: str
    role: str
    before: Result | None
    after: Result | None
    gain: float | None
    verdict: Verdict


def compare(before: Report, after: Report) -> list[Change]:
    """All peers of all cases of `before`, in its order."""
    later = {case.title: case for case in after.cases}
    changes = []
    for case in before.cases:
        other = later.get(case.title)
        anchor = _anchor(case, other) if other is not None else None
        results = {result.peer: result for result in other.results} if other is not None else {}
        for old in case.results:
            new = results.get(old.peer)
            gain, verdict = _judge(old, new, anchor)
            changes.append(Change(case.title, old.peer, old.role, old, new, gain, verdict))
    return changes


def _anchor(before: Case, after: Case) -> tuple[Result, Result] | None:
    """The fastest rival of the first run that also finished in the second."""
    healthy = {result.peer: result for result in after.results if result.usable}
    best = fastest(result for result in before.results if result.peer in healthy)
    return (best, healthy[best.peer]) if best is not None else None


def _judge(old: Result, new: Result | None, anchor: tuple[Result, Result] | None) -> tuple[float | None, Verdict]:
    if new is None:
        return None, "missing"
    if not old.usable or not new.usable:
        if old.usable == new.usable:
            return None, "same"
        return None, "fixed" if new.usable else "broken"
    if anchor is not None and old.peer != anchor[0].peer:
        speeds = ratios(anchor[0], old), ratios(anchor[1], new)
    else:
        speeds = [1 / ms for ms in old.rounds_ms if ms > 0], [1 / ms for ms in new.rounds_ms if ms > 0]
    if not all(speeds):
        return None, "missing"
    gain = median(speeds[1]) / median(speeds[0])
    (old_low, old_high), (new_low, new_high) = map(_middle_half, speeds)
    if abs(gain - 1) <= NOTICEABLE or not (new_low > old_high or new_high < old_low):
        return gain, "same"
    return gain, "faster" if gain > 1 else "slower"


def _middle_half(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def table(changes: list[Change]) -> str:
    lines = []
    title = ""
    for change in changes:
        if change.case != title:
            title = change.case
            lines.append(f"\n{title}\n  {'peer':<24}{'before':>12}{'after':>12}{'speed':>9}")
        times = (f"{r.median_ms:.3f} ms" if r is not None and r.usable else "-" for r in (change.before, change.after))
        before, after = times
        gain = "" if change.gain is None else f"{change.gain:.2f}x"
        mark = "" if change.verdict == "same" else f"  {change.verdict}"
        lines.append(f"  {change.peer:<24}{before:>12}{after:>12}{gain:>9}{mark}")
    return "\n".join(lines)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("before", type=Path)
    options.add_argument("after", type=Path)
    options.add_argument("--check", action="store_true", help="exit 1 when lhcc became slower or stopped working")
    args = options.parse_args()
    try:
        before, after = read(args.before), read(args.after)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    if before.benchmark != after.benchmark:
        print(f"error: {before.benchmark} and {after.benchmark} are different benchmarks", file=sys.stderr)
        return 2
    cpus = [report.origin.get("machine", {}).get("cpu") for report in (before, after)]
    if cpus[0] != cpus[1]:
        print(f"note: different machines: {cpus[0]} and {cpus[1]}")
    changes = compare(before, after)
    print(table(changes))
    worse = [change for change in changes if change.role == "ours" and change.verdict in ("slower", "broken")]
    print(f"\nlhcc slower or broken in {len(worse)} of {sum(c.role == 'ours' for c in changes)} measurements")
    return 1 if args.check and worse else 0


if __name__ == "__main__":
    raise SystemExit(main())
