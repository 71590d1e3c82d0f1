"""Every mistake: one sentence on stderr, exit code 2, no traceback, nothing half-written left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from lhcc.cli import COMMANDS, main

ROOT = Path(__file__).parents[2]
INTERRUPTED = -signal.SIGINT, "interrupted\n"  # exit code and complaint


@pytest.fixture(scope="module")
def artifact(small_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "model.lhcc"
    assert main(["compile", str(small_onnx), "-o", str(path)]) == 0
    return path


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") <= 2, captured.err  # the sentence and the hint
    return captured.err


def test_models_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.lhcc"
    missing = tmp_path / "missing.onnx"
    assert "missing.onnx" in complaint(capsys, "compile", missing, "-o", out)
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(b"\x08\x99not a model" * 50)
    assert "corrupt.onnx" in complaint(capsys, "compile", corrupt, "-o", out)
    assert "missing.lhcc" in complaint(capsys, "run", tmp_path / "missing.lhcc")
    assert not out.exists()


def test_files_of_another_kind(
    small_onnx: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, text = tmp_path / "out", tmp_path / "text.json"
    text.write_text("hello\n")
    for command in (("compile", artifact, "-o", out), ("tune", artifact, "--database", out)):
        assert "is compiled already\n  give the model that it was compiled from" in complaint(capsys, *command)
    assert "is not a tuning database" in complaint(capsys, "db", "merge", text, "-o", out)
    assert "is not a tuning database" in complaint(capsys, "compile", small_onnx, "-o", out, "--tuning", text)
    invalid = onnx.load(small_onnx)
    invalid.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(invalid, tmp_path / "invalid.onnx")
    said = complaint(capsys, "approximate", tmp_path / "invalid.onnx", "-o", out)
    assert "the model is not valid ONNX: Field 'shape'" in said
    assert not out.exists()


def test_inputs_that_do_not_fit(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def given(array: np.ndarray[Any, Any]) -> Path:
        np.save(tmp_path / "x.npy", array)
        return tmp_path / "x.npy"

    wrong_shape = complaint(capsys, "run", artifact, "--input", given(np.zeros((1, 3, 9, 9), "float32")))
    assert "input 'x' is float32[1, 3, 9, 9], the model takes float32[1, 3, 8, 8]" in wrong_shape
    wrong_type = complaint(capsys, "run", artifact, "--input", given(np.zeros((1, 3, 8, 8))))
    assert "input 'x' is float64[1, 3, 8, 8], the model takes float32[1, 3, 8, 8]" in wrong_type
    x = given(np.zeros((1, 3, 8, 8), "float32"))
    assert "2 input files for 1 inputs" in complaint(capsys, "run", artifact, "--input", x, "--input", x)
    np.savez(tmp_path / "xs.npz", a=np.zeros(1), b=np.zeros(1))
    assert "has no array 'x'" in complaint(capsys, "run", artifact, "--input", tmp_path / "xs.npz")
    (tmp_path / "text.npy").write_text("1 2 3")
    assert "is not an array file of numpy" in complaint(capsys, "run", artifact, "--input", tmp_path / "text.npy")
    assert "No such file" in complaint(capsys, "run", artifact, "--input", tmp_path / "none.npy")


def test_targets_and_options(
    small_onnx: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.lhcc"
    unknown = complaint(capsys, "compile", small_onnx, "-o", out, "--target", "cpuu")
    assert "target 'cpuu' is unknown" in unknown and "did you mean 'cpu'" in unknown
    assert "frobnicate" in complaint(capsys, "compile", small_onnx, "-o", out, "--target", "cpu:frobnicate=1")
    for command in ("run", "profile", "why"):
        for option in (("--target", "cpu"), ("--precision", "int8"), ("--encoding", "dense"), ("--max-ram", "1M")):
            said = complaint(capsys, command, artifact, *option)
            assert f"is compiled already\n  give {option[0]} and the like to lhcc compile" in said
    assert "is compiled already" in complaint(capsys, "inspect", artifact, "--target", "cpu")
    assert "not of the form" in complaint(capsys, "run", small_onnx, "--input-shape", "x=1,a")
    assert not out.exists()


@pytest.mark.parametrize(
    ("command", "sentence", "hint"),
    [
        ("", "lhcc needs COMMAND", "lhcc --help"),
        ("compil", "lhcc has no command 'compil'", "did you mean 'compile'?"),
        ("fly", "lhcc has no command 'fly'", "known are approximate, compile, db"),
        ("compile model.onnx", "lhcc compile needs -o/--output", "lhcc compile --help"),
        ("why", "lhcc why needs MODEL", "lhcc why --help"),
        ("inspect a b", "'b' is one argument too many", "lhcc inspect --help"),
        ("compile --targt cpu m -o x", "lhcc compile has no option '--targt'", "did you mean '--target'"),
        ("compile --targt=cpu m -o x", "lhcc compile has no option '--targt'", "did you mean '--target'"),
        ("compile m --outp x -o y", "lhcc compile has no option '--outp'", "did you mean '--output'"),
        ("targets --zzz", "lhcc targets has no option '--zzz'", "known are --help, --json, -h"),
        ("db split a -o b", "lhcc db has no action 'split'", "there is only merge"),
        ("compile m -o", "-o/--output: expected one argument", "lhcc compile --help"),
        ("run m --threads 0", "--threads: '0' is not a whole number of 1 or more", "lhcc run --help"),
        ("profile m --repeats two", "--repeats: 'two' is not a whole number of 1 or more", "lhcc profile --help"),
        ("serve --port 70000", "--port: '70000' is not a port", "lhcc serve --help"),
        ("tune m --budget soon", "--budget: 'soon' is not a number", "lhcc tune --help"),
        ("tune m --budget nan", "--budget: 'nan' is not a number", "lhcc tune --help"),
        (
            "approximate m -o x --max-error -1",
            "--max-error: '-1' is not 0 or more",
            "lhcc approximate --help",
        ),
    ],
)
def test_arguments_that_are_wrong(command: str, sentence: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(capsys, *command.split())
    assert said.startswith(f"error: {sentence}") and f"\n  {hint}" in said


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_in_one_line_what_must_be_given(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([*command.split(), "--help"])
    usage, blank, *rest = capsys.readouterr().out.splitlines()
    assert left.value.code == 0 and usage.startswith(f"usage: {f'lhcc {command}'.strip()} ")
    assert blank == "" and any("-h, --help" in line for line in rest)


def test_calibration_data_for_a_model_of_floats(
    small_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "model.lhcc"
    said = complaint(capsys, "compile", small_onnx, "-o", out, "--calibrate", tmp_path / "x.npz")
    assert "a model of floats has no use for calibration data\n  compile it with precision int8" in said
    assert not out.exists()


def test_outputs_that_cannot_be_written(
    small_onnx: Path, artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no folder" in complaint(capsys, "compile", small_onnx, "-o", tmp_path / "no" / "model.lhcc")
    assert "it is a directory" in complaint(capsys, "compile", small_onnx, "-o", tmp_path)
    assert "it is a device" in complaint(capsys, "compile", small_onnx, "-o", "/dev/full")
    assert "ends in .npy or .npz" in complaint(capsys, "run", artifact, "--output", tmp_path / "y.txt")
    assert "there is no folder" in complaint(capsys, "profile", artifact, "--html", tmp_path / "no" / "p.html")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up(big_onnx: Path, tmp_path: Path) -> None:
    """A file size limit below the size of the weights stands for the full disk: the write fails in the same way."""
    command = f"ulimit -f 512; exec {sys.executable} -m lhcc compile {big_onnx} -o {tmp_path}/model.lhcc"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr and "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_room_for_intermediate_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lhcc.runtime import files

    monkeypatch.setattr(files, "SCRATCH", 1 << 62)
    with pytest.raises(files.OutputError, match="no place for intermediate files"), files.scratch():
        pytest.fail("there cannot be that much room")


class Compilation:
    """`lhcc compile` in a process of its own, which can be interrupted once something is seen of it."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.output = folder / "model.lhcc"
        self.dump = folder / "dump"
        command = [sys.executable, "-m", "lhcc", "compile", str(model), "-o", str(self.output)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "LHCC_DUMP": str(self.dump)}
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)

    def has_begun(self) -> bool:
        """Whether a pass has run."""
        return any(self.dump.glob("*.py"))

    def generates_code(self) -> bool:
        return any(self.scratch())

    def has_written(self) -> bool:
        return self.output.exists()

    def scratch(self) -> list[Path]:
        folders = (Path("/dev/shm"), self.output.parent)
        return [path for folder in folders for path in folder.glob(f"lhcc-{self.process.pid}-*")]

    def interrupt(self, when: Callable[[], bool], times: int = 1) -> tuple[int, str]:
        """Sends SIGINT when asked to, up to `times` times while the process lives; its exit code and complaints."""
        while self.process.poll() is None and not when():
            time.sleep(0.001)
        for _ in range(times):
            if self.process.poll() is not None:
                break
            self.process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors.decode()


@pytest.mark.parametrize("stage", ["has_begun", "generates_code"])
def test_an_interrupt_leaves_nothing(big_onnx: Path, tmp_path: Path, stage: str) -> None:
    compilation = Compilation(big_onnx, tmp_path)
    code, errors = compilation.interrupt(getattr(compilation, stage))
    if code == 0:
        pytest.skip("this machine is so busy that the compilation had ended before it was interrupted")
    assert (code, errors) == INTERRUPTED
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]
    assert compilation.scratch() == []


def test_interrupts_after_the_work_is_done(small_onnx: Path, tmp_path: Path) -> None:
    """The interpreter takes its time to leave: interrupts do not kill it then, and the artifact is whole."""
    compilation = Compilation(small_onnx, tmp_path)
    code, errors = compilation.interrupt(compilation.has_written, times=2000)
    assert (code, errors) in {(0, ""), INTERRUPTED}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "model.lhcc"]
    assert main(["run", str(compilation.output)]) == 0


def test_a_bug_keeps_its_traceback(small_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lhcc.doctor

    def broken() -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(lhcc.doctor, "diagnose", broken)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])
