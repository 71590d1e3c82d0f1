"""Every benchmark is a module that explains itself; PyTorch computes what the ONNX file says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.results import ROOT

SCRIPTS = [
    "cpu_dense",
    "cpu_lhc",
    "cpu_layers",
    "cpu_int8",
    "density_curve",
    "layer_rates",
    "compile_time",
    "compare",
    "models",
    "edge_c",
    "edge_instructions",
]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_tells_what_it_measures_and_needs_no_runtime(script: str) -> None:
    code = f"""
import runpy, sys
sys.argv = ["{script}", "--help"]
try:
    runpy.run_module("benchmarks.{script}", run_name="__main__")
except SystemExit as end:
    heavy = set(sys.modules) & {{"torch", "tvm", "onnxruntime", "openvino", "matplotlib"}}
    assert not heavy, heavy
    raise SystemExit(end.code)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


@pytest.mark.torch
@pytest.mark.parametrize("density", [1.0, 0.3])
def test_torch_twin_of_a_network_agrees_with_onnxruntime(density: float, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from benchmarks.models import NetworkWriter, Recipe, write
    from benchmarks.runtimes import example, load_onnxruntime, load_torch

    net = NetworkWriter("small", 3, 16, Recipe(density=density))
    x = net.conv("stem", net.input, 32, 3, 2, activation="relu6")
    y = net.conv("depthwise", x, 32, 3, groups=32)
    y = net.conv("last", y, 32, 1, add=x, activation=None)
    net.classifier(net.max_pool("pool1", y, 3, 2, 1), 10)
    path = write(net, tmp_path / "small.onnx")
    assert example(path)[1].shape == (1, 3, 16, 16)
    expected = load_onnxruntime(path, 1, {}).output()
    found = load_torch(path, 1, {}).output()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_fresh_process_reports_its_own_clock_or_its_last_words() -> None:
    from benchmarks.compile_time import ScriptFailed, seconds

    clock, cpu = seconds("import sys; print('chatter'); print(sys.argv[1])", "1.5")
    assert clock == 1.5
    assert 0 < cpu < 30
    with pytest.raises(ScriptFailed, match="no such model"):
        seconds("raise ValueError('no such model')")
    with pytest.raises(ScriptFailed, match="not done after"):
        seconds("import time; time.sleep(60)", timeout_s=0.2)


def test_session_writes_its_report_and_check_decides_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.measure import Peer
    from benchmarks.results import read
    from benchmarks.session import Session, parser

    code = "import sys\nprint('{\"ready\": 1}', flush=True)\n"
    code += 'for line in sys.stdin: print(\'{"out": [1], "t": [0.002], "waiting": 0.5}\', flush=True)'
    peers = [Peer("runtime", (sys.executable, "-c", code)), Peer("lhcc", (sys.executable, "-c", code), role="ours")]

    def run(*arguments: str) -> int:
        args = parser("").parse_args([*arguments, "--json", str(tmp_path / "out.json"), "--rounds", "2"])
        session = Session("example", args)
        case = session.measure("a case", peers, 1, density=0.1)
        session.ask("easy", case.speed("lhcc"), 0.5)
        session.ask("hard", case.speed("lhcc"), 3.0)
        return session.finish()

    assert run() == 0
    assert run("--check") == 1
    printed = capsys.readouterr()
    assert "missed: hard: 1 x, asked >= 3 x, 67% short" in printed.err
    assert "peers waited up to 50% of the time" in printed.out
    report = read(tmp_path / "out.json")
    assert report.cases[0].title == "a case, 1 thread" and report.cases[0].facts["density"] == 0.1
    assert [figure.met for figure in report.figures] == [True, False]


def test_what_a_file_holds_is_kept_but_for_what_is_measured_again(tmp_path: Path) -> None:
    from benchmarks.results import Case, Report, Result, read
    from benchmarks.session import Session, parser

    file = tmp_path / "out.json"

    def case(title: str, milliseconds: float) -> Case:
        ours = Result("lhcc", role="ours")
        ours.summarise([milliseconds])
        return Case(title, 1, [ours])

    def run(title: str, milliseconds: float, *arguments: str) -> Report:
        session = Session("example", parser("").parse_args(["--json", str(file), *arguments]))
        session.keep(case(title, milliseconds))
        session.ask(f"{title}: time", milliseconds, 2.0, "ms", at_least=False)
        return read(file)  # written before the run is over

    run("a", 1.0)
    assert [found.title for found in run("b", 1.0, "--update").cases] == ["a", "b"]
    again = run("a", 3.0, "--update")
    assert [(found.title, found.results[0].median_ms) for found in again.cases] == [("a", 3.0), ("b", 1.0)]
    assert [(found.name, found.met) for found in again.figures] == [("a: time", False), ("b: time", True)]
    assert [found.title for found in run("c", 1.0).cases] == ["c"]

    other = read(file)
    other.origin["machine"]["caches"] = ["L1 data 1K"]
    other.write(file)
    with pytest.raises(SystemExit, match="another machine"):
        run("d", 1.0, "--update")
