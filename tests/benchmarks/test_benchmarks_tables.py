"""Tables in README and docs: right for a report, and today's in every page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import tables
from benchmarks.results import ROOT, Case, Report, Result


def result(peer: str, milliseconds: float, role: str = "rival", precision: str = "fp32", error: str = "") -> Result:
    made = Result(peer, precision, role, rounds_ms=[milliseconds], error=error or None)
    made.summarise([milliseconds])
    return made


def case(threads: int, *results: Result, **facts: object) -> Case:
    return Case("a case", threads, list(results), dict(facts))


def test_networks_have_a_line_each_and_a_column_for_every_thread_count() -> None:
    report = Report(
        "cpu_lhc",
        [
            case(2, result("a", 6.0), result("lhcc", 0.5, "ours"), network="resnet34", density=0.1),
            case(1, result("a", 9.0), result("b", 8.0), result("lhcc", 1.0, "ours"), network="resnet34", density=0.1),
            case(1, result("a", 9.0), result("lhcc", 1.0, "ours", error="wrong"), network="vgg16-cifar", density=1.0),
        ],
    )
    assert tables.table(report) == (
        "| network | kept | over the fastest, 1 thread | 2 threads |\n"
        "| --- | --- | --- | --- |\n"
        "| ResNet-34 (224) | 0.1 | 8x (1 ms) | 12x (0.5 ms) |\n"
        "| VGG16-CIFAR | 1 | not measured | not measured |\n"
    )


def test_layers_are_compared_with_our_dense_kernel() -> None:
    dense = result("lhcc, no zeros", 3.0, "ours")
    report = Report("cpu_layers", [case(1, result("lhcc", 1.5, "ours"), dense, layer="hetconv-p8", kept=0.25)])
    assert tables.table(report).splitlines()[2] == "| HetConv, P = 8 | 0.250 | 4x | 2x (1.5 ms) |"


def test_integers_are_compared_with_integers_and_with_our_fp32() -> None:
    peers = [result("a", 1.0), result("b", 4.0, precision="int8"), result("c", 6.0, precision="int8")]
    ours = [result("lhcc", 3.0, "ours"), result("lhcc-int8", 2.0, "ours", "int8")]
    report = Report("cpu_int8", [case(1, *peers, *ours, network="resnet50", density=1.0)])
    assert tables.table(report).splitlines()[2] == "| ResNet-50 (224) | 1 | 2x (2 ms) | 1.5x |"


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_pages_quote_the_reports_as_they_are(page: Path) -> None:
    text = page.read_text()
    assert tables.written(text) == text, "python -m benchmarks.tables writes the tables anew"


def test_what_stands_around_a_table_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    ours = result("lhcc", 1.0, "ours")
    report = Report("cpu_dense", [case(1, result("a", 2.0), ours, network="resnet50")], origin={"commit": "1"})
    report.write(tmp_path / "x.json")
    page = "Before.\n\n<!-- figures: x.json -->\n| old |\n\nAfter | all.\n"
    expected = tables.table(report)
    assert expected in tables.written(page)
    assert tables.written(page) == f"Before.\n\n<!-- figures: x.json -->\n{expected}\nAfter | all.\n"
    assert tables.written(tables.written(page)) == tables.written(page)


def test_readme_has_marked_tables() -> None:
    assert tables.MARKED.search((ROOT / "README.md").read_text())
