"""Figures, reports and comparisons: what is asked, what is missed, and what changed beyond the noise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.cpu_lhc import ASKED, chosen
from benchmarks.density_curve import Curve, break_even, draw
from benchmarks.results import Case, Figure, Report, Result, fastest, origin, read, speed_up
from benchmarks.session import table


def result(peer: str, rounds_ms: list[float], role: str = "rival", precision: str = "fp32") -> Result:
    made = Result(peer, precision, role, version="1.0", rounds_ms=rounds_ms)
    made.summarise(rounds_ms)
    return made


def report(ours: list[float], theirs: list[float]) -> Report:
    case = Case("vgg, 1 thread", 1, [result("ort", theirs), result("lhcc", ours, "ours")])
    return Report("cpu_lhc", [case], [Figure("speed", case.speed("lhcc"), 5.0)], {"rounds": len(ours)}, origin())


def test_speed_up_is_the_median_of_per_round_ratios() -> None:
    """One disturbed round, in which both were ten times slower, does not move it; the ratio of medians would."""
    slow, fast = result("slow", [4.0, 40.0, 4.0]), result("fast", [1.0, 10.0, 2.0])
    assert speed_up(slow, fast) == 4
    broken = Result("broken", error="crashed")
    assert speed_up(slow, broken) is None


def test_fastest_rival_ignores_ours_extras_other_precisions_and_failures() -> None:
    candidates = [
        result("ours", [1.0], "ours"),
        result("extra", [1.0], "extra"),
        result("int8", [1.0], precision="int8"),
        Result("broken", error="crashed"),
        result("slow", [9.0]),
        result("best", [8.0]),
    ]
    best = fastest(candidates)
    assert best is not None and best.peer == "best"
    assert fastest(candidates[:1]) is None
    quantized = fastest(candidates, "int8")
    assert quantized is not None and quantized.peer == "int8"


@pytest.mark.parametrize(
    ("figure", "met", "text"),
    [
        (Figure("speed", 12.5, 12.0), True, "speed: 12.5 x, asked >= 12 x"),
        (Figure("speed", 9.0, 12.0), False, "speed: 9 x, asked >= 12 x, 25% short"),
        (Figure("time", 18.0, 15.0, "s", at_least=False), False, "time: 18 s, asked <= 15 s, 20% over"),
        (Figure("time", 14.0, 15.0, "s", at_least=False), True, "time: 14 s, asked <= 15 s"),
        (Figure("speed", None, 12.0), False, "speed: not measured, asked >= 12 x"),
        (Figure("speed", float("nan"), 12.0), False, "speed: nan x, asked >= 12 x, nan% short"),
    ],
)
def test_figure(figure: Figure, met: bool, text: str) -> None:
    assert figure.met is met
    assert str(figure) == text


def test_report_survives_writing_and_reading(tmp_path: Path) -> None:
    written = report([1.0, 1.1, 0.9], [6.0, 6.1, 5.9])
    written.cases[0].results.append(Result("broken", error="crashed", relative_error=float("nan")))
    written.write(tmp_path / "a.json")
    again = read(tmp_path / "a.json")
    assert again.figures == written.figures
    assert again.cases[0].results[:2] == written.cases[0].results[:2]
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["cases"][0]["results"][2]["relative_error"] is None
    assert record["versions"] == {"ort": "1.0", "lhcc": "1.0"}
    assert {"commit", "dirty", "date", "machine"} <= set(record)
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_machine_is_described_without_naming_it() -> None:
    import platform

    text = json.dumps(origin()["machine"])
    assert "cpu" in text and "caches" in text
    assert len(platform.node()) < 3 or platform.node() not in text


def test_reading_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="format 99"):
        read(tmp_path / "a.json")


def test_table_shows_failures_and_labels_other_precisions() -> None:
    text = table(
        [
            result("ort", [4.0, 4.0]),
            result("ov", [1.0, 1.0], precision="int8"),
            Result("lhcc", error="crashed (SIGSEGV)"),
        ]
    )
    assert "crashed (SIGSEGV)" in text
    assert "(int8, for scale)" in text and "4.00x" in text


def test_compare_sees_a_change_through_common_noise() -> None:
    """The second run was on a machine half as fast: both peers slowed down, lhcc by less."""
    before = report([1.0, 1.01, 0.99, 1.0], [6.0, 6.06, 5.94, 6.0])
    after = report([1.5, 1.51, 1.49, 1.5], [12.0, 12.1, 11.9, 12.0])
    changes = {change.peer: change for change in compare.compare(before, after)}
    assert changes["lhcc"].verdict == "faster"
    assert changes["lhcc"].gain == pytest.approx(8 / 6, rel=1e-3)
    assert "faster" in compare.table(list(changes.values()))


@pytest.mark.parametrize(
    ("ours", "verdict"),
    [
        ([1.0, 1.3, 0.8, 1.1], "same"),  # within the spread
        ([1.01, 1.01, 1.01, 1.01], "same"),  # beyond the spread, too small to matter
        ([1.2, 1.21, 1.19, 1.2], "slower"),
    ],
)
def test_compare_knows_noise(ours: list[float], verdict: str) -> None:
    rival = [6.0, 6.0, 6.0, 6.0]
    (_, change) = compare.compare(report([1.0, 1.001, 0.999, 1.0], rival), report(ours, rival))
    assert change.verdict == verdict


def test_compare_names_what_broke_and_what_is_missing() -> None:
    before, after = report([1.0, 1.0], [6.0, 6.0]), report([1.0, 1.0], [6.0, 6.0])
    after.cases[0].results[1] = Result("lhcc", role="ours", error="crashed")
    assert [change.verdict for change in compare.compare(before, after)] == ["same", "broken"]
    assert [change.verdict for change in compare.compare(after, before)] == ["same", "fixed"]
    after.cases.clear()
    assert {change.verdict for change in compare.compare(before, after)} == {"missing"}


def test_compare_as_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("before.json", "after.json")]
    report([1.0] * 4, [6.0] * 4).write(paths[0])
    report([2.0] * 4, [6.0] * 4).write(paths[1])
    monkeypatch.setattr("sys.argv", ["compare", *map(str, paths), "--check"])
    assert compare.main() == 1
    assert "slower" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["compare", str(paths[0]), str(tmp_path / "absent.json")])
    assert compare.main() == 2
    assert capsys.readouterr().err.startswith("error:")


def test_rows_filter() -> None:
    assert chosen(None) == list(ASKED)
    assert chosen("resnet34") == [("resnet34", 0.1), ("resnet34", 0.2)]
    assert chosen("vgg16-cifar:0.3,resnet50:0.5") == [("vgg16-cifar", 0.3), ("resnet50", 0.5)]


def test_break_even_is_where_the_curve_falls_to_one() -> None:
    assert break_even([0.25, 0.5, 1.0], [4.0, 2.0, 1.0]) == 1.0
    # A straight line in logarithms from (0.25, 2) to (1, 0.5) crosses 1 at 0.5.
    assert break_even([0.25, 1.0], [2.0, 0.5]) == pytest.approx(0.5)
    assert break_even([0.1, 0.5], [9.0, 1.9]) is None
    assert break_even([0.1, 0.5, 1.0], [0.9, None, 0.5]) == 0.1
    assert break_even([0.25, 0.5, 1.0], [2.0, None, 0.5]) == pytest.approx(0.5)


def test_curve_is_drawn_and_redrawn_the_same(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    curve = Curve("3x3", [0.1, 0.5, 0.9, 1.0], [8.0, 1.9, 0.98, 1.0], [7.0, None, 0.9, 0.9])
    pictures = []
    for name in ("a.svg", "b.svg"):
        draw([curve, curve], tmp_path / name, "One layer")
        pictures.append((tmp_path / name).read_text())
    assert pictures[0] == pictures[1]
    assert "break-even" in pictures[0] and "ideal" in pictures[0]
