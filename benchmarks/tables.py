"""The tables of figures in README and docs, written from the reports that they quote: `python -m benchmarks.tables`.

A line `<!-- figures: cpu_lhc.json -->` stands before each; the table that follows it is this module's to write.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from benchmarks.results import ROOT, Report, Result, read, speed_up

RESULTS = ROOT / "benchmarks" / "results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MARKED = re.compile(r"(<!-- figures: (?P<file>\S+) -->\n)(?P<table>(?:\|.*\n)*)")
NAMES = {
    "vgg16-cifar": "VGG16-CIFAR",
    "resnet18-cifar": "ResNet-18-CIFAR",
    "resnet34": "ResNet-34 (224)",
    "resnet50": "ResNet-50 (224)",
    "mobilenetv2": "MobileNetV2 (224)",
    "hetconv-p2": "HetConv, P = 2",
    "hetconv-p4": "HetConv, P = 4",
    "hetconv-p8": "HetConv, P = 8",
    "pattern-per-kernel": "4 of 9 taps, a pattern per kernel",
    "pattern-per-filter": "4 of 9 taps, a pattern per filter",
    "unstructured-0.1": "single weights",
}
Row = list[str]


def networks(report: Report) -> list[Row]:
    """A line a network and density; every thread count in its column."""
    threads = sorted({case.threads for case in report.cases})
    counts = [f"{count} thread{'s' if count > 1 else ''}" for count in threads]
    rows = [["network", "kept", f"over the fastest, {counts[0]}", *counts[1:]]]
    cells: dict[tuple[str, float], dict[int, str]] = {}
    for case in report.cases:
        key = case.facts["network"], case.facts.get("density", 1.0)
        cells.setdefault(key, {})[case.threads] = _ratio(case.speed("lhcc"), case.result("lhcc"))
    for (network, density), found in cells.items():
        rows.append([NAMES[network], f"{density:g}", *(found.get(count, "not measured") for count in threads)])
    return rows


def layers(report: Report) -> list[Row]:
    """A line a way of pruning: what is kept, what that promises, what our dense kernel's time is divided by."""
    rows = [["zeros", "kept", "ideal", "over our dense kernel"]]
    for case in report.cases:
        ours, kept = case.result("lhcc"), case.facts["kept"]
        speed = _ratio(speed_up(case.result("lhcc, no zeros"), ours), ours)
        rows.append([NAMES[case.facts["layer"]], f"{kept:.3f}", f"{1 / kept:.3g}x", speed])
    return rows


def integers(report: Report) -> list[Row]:
    """A line a network: against the faster int8 rival, and against our own fp32."""
    rows = [["network in int8", "kept", "over the fastest in int8", "over our fp32"]]
    for case in report.cases:
        ours = next(result for result in case.results if result.role == "ours" and result.precision == "int8")
        over_fp32 = _ratio(speed_up(case.result("lhcc"), ours))
        over_rivals = _ratio(case.speed(ours.peer, "int8"), ours)
        rows.append([NAMES[case.facts["network"]], f"{case.facts['density']:g}", over_rivals, over_fp32])
    return rows


FORMS: dict[str, Callable[[Report], list[Row]]] = {
    "cpu_lhc": networks,
    "cpu_dense": networks,
    "cpu_layers": layers,
    "cpu_int8": integers,
}


def table(report: Report) -> str:
    """A report's table in Markdown."""
    head, *rows = FORMS[report.benchmark](report)
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def written(text: str) -> str:
    """A page with its marked tables as the reports have them today."""
    return MARKED.sub(lambda found: found[1] + table(read(RESULTS / found["file"])), text)


def _ratio(speed: float | None, ours: Result | None = None) -> str:
    if speed is None:
        return "not measured"
    time = "" if ours is None else f" ({ours.median_ms:.3g} ms)"
    return f"{speed:.3g}x{time}"


def main() -> None:
    for page in PAGES:
        before = page.read_text()
        after = written(before)
        if after != before:
            page.write_text(after)
            print(f"{page.relative_to(ROOT)}: written anew")


if __name__ == "__main__":
    main()
