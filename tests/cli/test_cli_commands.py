"""The command line on good input, run as a user runs it and, where that is enough, inside this process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhcc.cli import main

ROOT = Path(__file__).parents[2]


def lhcc(*arguments: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """A process of its own, as a user starts it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lhcc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, **more)


@pytest.fixture(scope="module")
def artifact(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "model.lhcc"
    assert main(["compile", str(small_onnx), "-o", str(path)]) == 0
    return path


def test_compile_says_what_it_wrote(small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.lhcc"
    assert main(["compile", str(small_onnx), "-o", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes"] == path.stat().st_size
    assert facts["layers"] >= 2


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_run_a_model_and_its_artifact(
    small_onnx: Path,
    artifact: Path,
    small_input: np.ndarray[Any, Any],
    expected: np.ndarray[Any, Any],
    tmp_path: Path,
    suffix: str,
) -> None:
    given = tmp_path / f"x{suffix}"
    if suffix == ".npy":
        np.save(given, small_input)
    else:
        np.savez(given, x=small_input)
    for model in (small_onnx, artifact) if suffix == ".npy" else (artifact,):
        written = tmp_path / f"y{suffix}"
        done = lhcc("run", model, "--input", given, "--output", written)
        assert (done.returncode, done.stderr) == (0, "")
        assert "y" in done.stdout
        result = np.load(written)
        np.testing.assert_allclose(result if suffix == ".npy" else result["y"], expected, rtol=1e-4, atol=1e-5)


def test_run_without_input_says_so(artifact: Path) -> None:
    done = lhcc("run", artifact)
    assert done.returncode == 0
    assert "random numbers" in done.stderr


def test_running_an_artifact_imports_neither_compiler_nor_torch(artifact: Path) -> None:
    script = (
        "import sys; from lhcc.cli import main; code = main(['run', sys.argv[1]]);"
        "bad = {'tvm', 'torch', 'onnx'} & set(sys.modules); sys.exit(f'imported {bad}' if bad else code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(artifact)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_profile_writes_every_report(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {kind: tmp_path / f"p.{kind}" for kind in ("csv", "html", "trace")}
    options = [text for kind, path in paths.items() for text in (f"--{kind}", str(path))]
    assert main(["profile", str(artifact), "--repeats", "5", "--json", *options]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["repeats"] <= 5
    assert len(data["layers"]) == len(paths["csv"].read_text().splitlines()) - 1
    assert paths["html"].read_text().startswith("<!DOCTYPE html>")
    assert json.loads(paths["trace"].read_text())["traceEvents"]


def test_profile_against_another_artifact(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(artifact), "--against", str(artifact), "--repeats", "10"]) == 0
    assert "times as fast" in capsys.readouterr().out


def test_why_and_inspect(small_onnx: Path, artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", str(small_onnx), "--json"]) == 0
    reasons = json.loads(capsys.readouterr().out)["reasons"]
    assert all(set(reason) == {"layer", "pass_name", "text"} for reason in reasons)
    assert main(["why", str(artifact), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reasons"] == reasons
    assert main(["inspect", str(small_onnx), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["layers"]) == 2


def test_why_of_integers_names_the_choice_and_what_it_costs(
    small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dyadic, artifact = str(tmp_path / "dyadic.onnx"), str(tmp_path / "dyadic.lhcc")
    assert main(["approximate", str(small_onnx), "-o", dyadic]) == 0
    assert main(["compile", dyadic, "--precision", "int8", "-o", artifact]) == 0
    capsys.readouterr()
    assert main(["why", artifact, "--json"]) == 0
    compiled = json.loads(capsys.readouterr().out)["reasons"]
    assert main(["why", dyadic, "--precision", "int8", "--json"]) == 0
    reasons = json.loads(capsys.readouterr().out)["reasons"]
    assert reasons == compiled
    chosen = [reason for reason in reasons if reason["text"].startswith("chosen ")]
    assert {reason["layer"] for reason in reasons} == {reason["layer"] for reason in chosen}
    assert all("cycles" in reason["text"] for reason in chosen)
    assert main(["why", dyadic, "--precision", "int8", "--arith", "shift"]) == 0
    assert "additions as code" in capsys.readouterr().out


def test_targets_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--json"]) == 0
    assert "cpu" in [target["name"] for target in json.loads(capsys.readouterr().out)["targets"]]
    assert main(["doctor", "--json"]) == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert found["numpy"]["version"] == np.__version__
    assert main(["doctor"]) == 0
    assert np.__version__ in capsys.readouterr().out


@pytest.mark.slow
def test_profile_at_another_machine(artifact: Path, tmp_path: Path) -> None:
    """The other machine is a process here, behind the loopback device."""
    command = [sys.executable, "-m", "lhcc", "serve", "--port", "19091"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stderr is not None
        said = next(line for line in server.stderr if "serving at" in line)
        address = said.split("serving at ")[1].split(";")[0]
        done = lhcc("profile", artifact, "--rpc", address, "--repeats", "5", "--json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)["layers"]) >= 2
        refused = lhcc("profile", artifact, "--rpc", address, "--against", "onnxruntime")
        assert (refused.returncode, "leave out --rpc" in refused.stderr) == (2, True)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=30)


@pytest.mark.slow
def test_tune_then_compile_with_what_was_found(small_onnx: Path, tmp_path: Path) -> None:
    database = tmp_path / "tuning.json"
    tuned = lhcc("tune", small_onnx, "--budget", "6", "--database", database, "--json")
    assert tuned.returncode == 0, tuned.stderr
    if not json.loads(tuned.stdout)["measured"]:
        pytest.skip("the machine is too busy to measure anything within the budget")
    merged = lhcc("db", "merge", database, database, "-o", tmp_path / "all.json", "--json")
    assert merged.returncode == 0, merged.stderr
    assert json.loads(merged.stdout)["added"] == len(database.read_text().splitlines())
    compiled = lhcc("compile", small_onnx, "--tuning", tmp_path / "all.json", "-o", tmp_path / "model.lhcc")
    assert compiled.returncode == 0, compiled.stderr


def test_approximate_then_run(small_onnx: Path, tmp_path: Path) -> None:
    done = lhcc("approximate", small_onnx, "-o", tmp_path / "dyadic.onnx", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layers"]
    assert lhcc("run", tmp_path / "dyadic.onnx").returncode == 0
    design = lhcc(
        "compile", tmp_path / "dyadic.onnx", "--target", "fpga:reuse=folded", "-o", tmp_path / "design", "--json"
    )
    assert design.returncode == 0, design.stderr
    assert all((tmp_path / "design" / name).stat().st_size for name in json.loads(design.stdout)["files"])
    cycles = lhcc("profile", tmp_path / "dyadic.onnx", "--target", "fpga:reuse=folded", "--no-synthesis")
    assert (cycles.returncode, "cycles" in cycles.stdout) == (0, True), cycles.stderr


def test_help_names_every_command() -> None:
    done = lhcc("--help")
    assert done.returncode == 0
    for command in ("inspect", "compile", "run", "tune", "profile", "approximate", "why", "targets", "doctor"):
        assert command in done.stdout
        assert "--json" in lhcc(command, "--help").stdout


def test_output_into_a_closed_pipe_is_no_error(artifact: Path) -> None:
    command = f"{sys.executable} -m lhcc profile {artifact} --repeats 3 | head -n 1; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)


def test_a_server_says_in_json_where_it_listens() -> None:
    command = [sys.executable, "-m", "lhcc", "serve", "--port", "9391", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    try:
        assert server.stdout is not None
        place = json.loads(server.stdout.readline())
        assert place["host"] == "127.0.0.1" and place["port"] >= 9391 and place["tracker"] is None
        with socket.create_connection((place["host"], place["port"]), timeout=30):
            pass
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == -signal.SIGINT
