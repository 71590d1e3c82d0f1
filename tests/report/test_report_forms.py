"""The reports of a profile with made-up times."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lhcc.report.svg import colour, roofline
from lhcc.report.text import grid, quantity
from lhcc.runtime.peak import Peak
from lhcc.runtime.profile import LayerTime, Profile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def layer(name: str, time_us: float, macs: int, encoding: str = "tiles") -> LayerTime:
    return LayerTime(
        name=name,
        op="conv2d",
        encoding=encoding,
        density=0.25,
        macs=4 * macs,
        macs_kept=macs,
        adds=0,
        bytes_moved=50_000,
        time_us=time_us,
        low_us=time_us - 1,
        high_us=time_us + 1,
        share=time_us / 60,
        gflops=2 * macs / time_us / 1e3,
        peak_percent=2 * macs / time_us / 1e3,
        bandwidth_percent=7.0,
        bound="compute",
        kernel="kernel_" + name,
    )


@pytest.fixture
def profile() -> Profile:
    layers = (
        layer("conv<1>", 10, 100_000),
        layer("features.2 & relu", 20, 900_000, "dyadic"),
        layer("pool", 30, 0, ""),
    )
    return Profile(
        layers=layers,
        total_us=62.0,
        total_low_us=61.0,
        total_high_us=64.0,
        call_us=2.5,
        overhead_percent=1.5,
        repeats=3,
        disturbed=2,
        threads=1,
        target="cpu",
        processor="Test & Co",
        peak=Peak(100.0, ((1 << 15, 200.0), (1 << 26, 10.0))),
        samples=((10.0, 20.0, 30.0), (11.0, 21.0, 29.0), (9.0, 20.0, 31.0)),
    )


def test_table(profile: Profile) -> None:
    text = str(profile)
    lines = text.splitlines()
    assert lines[0].split()[:4] == ["layer", "op", "encoding", "density"]
    assert lines[2].startswith("conv<1>")
    assert "end to end 62.0 us (+- 1.5), sum of layers 60.0 us (-3.2 %), with 2.5 us to call the model 62.5 us" in text
    assert "1M of 4M multiply-adds are computed" in text
    assert "2 further repeats were interrupted" in text
    filled_up = replace(profile.layers[0], macs=10, macs_kept=16)
    narrow = str(replace(profile, layers=(filled_up,)))
    assert "16 multiply-adds are computed for 10, as vectors are wider than its layers" in narrow


def test_json_and_csv_hold_every_layer(profile: Profile) -> None:
    data = json.loads(json.dumps(profile.json()))
    assert [item["name"] for item in data["layers"]] == [item.name for item in profile.layers]
    assert (data["total_us"], data["sum_us"], data["peak"]["gflops"]) == (62.0, 60.0, 100.0)
    rows = list(csv.DictReader(io.StringIO(profile.csv())))
    assert [row["name"] for row in rows] == [item.name for item in profile.layers]
    assert float(rows[1]["time_us"]) == 20.0


def test_trace_is_valid_trace_event_json(profile: Profile) -> None:
    events = json.loads(profile.trace())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    assert len(slices) == 3 * (1 + 3)
    for event in events:
        assert {"name", "ph", "pid", "tid", "ts"} <= event.keys()
    runs = [event for event in slices if event["cat"] == "run"]
    for event in (e for e in slices if e["cat"] == "layer"):  # every layer lies within one run
        assert (
            sum(r["ts"] <= event["ts"] and event["ts"] + event["dur"] <= r["ts"] + r["dur"] + 1e-6 for r in runs) == 1
        )


def test_html_is_self_contained(profile: Profile) -> None:
    page = profile.html({"conv<1>": "<svg id='shapes'></svg>"})
    assert not re.search(r"(?:src|href)\s*=\s*[\"'](?!data:)", page)
    assert "<script" not in page and "url(" not in page and "@import" not in page
    assert "conv&lt;1&gt;" in page and "conv<1>" not in page
    for svg in re.findall(r"<svg .*?</svg>", page, re.S):
        ElementTree.fromstring(svg)
    assert page.count('class="layer"') == 3 + 2  # bars, and circles of those that compute
    assert "id='shapes'" in page


def test_html_without_peak_or_layers(profile: Profile) -> None:
    assert "peak of this machine was not measured" in replace(profile, peak=None).html()
    assert "<table>" in replace(profile, layers=(), samples=()).html()


def test_the_roofline_names_the_layers_that_take_longest(profile: Profile) -> None:
    short, long, pool = profile.layers
    drawn = roofline(replace(profile, layers=(replace(short, share=0.05), replace(long, share=0.8), pool)))
    names = re.findall(r'<text [^>]*class="over">([^<]*)</text>', drawn)
    assert names == ["features.2 &amp; relu"]  # pooling computes nothing, and is not in it
    assert drawn.rindex("<circle") < drawn.index("over")  # in front of all circles


def test_encodings_have_colours_of_their_own() -> None:
    assert colour("tiles (bytes)") == colour("tiles") != colour("dense")
    assert colour("") == colour("something new")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_html_in_a_browser(profile: Profile, tmp_path: Path) -> None:
    """Opened without a network: both charts are laid out, and the console stays silent."""
    page = tmp_path / "profile.html"
    page.write_text(profile.html())
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/user"]
    command += ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=2000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert 'id="bars"' in done.stdout and 'id="roofline"' in done.stdout
    assert done.stdout.count("<circle") == 2
    assert "CONSOLE" not in done.stderr, done.stderr


def test_grid_aligns() -> None:
    assert grid(["a", "b"], [["long", "1"], ["x", "22"]]) == "a      b\n----  --\nlong   1\nx     22"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1k"), (12_345, "12.3k"), (999_600, "1e+03k"), (1e6, "1M"), (7.89e9, "7.89G")],
)
def test_quantity(value: float, text: str) -> None:
    if value != 999_600:  # rounds up to the next unit; either spelling is a fair one
        assert quantity(value) == text
    assert len(quantity(value)) <= 6
