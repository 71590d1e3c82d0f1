"""What emitting writes and refuses, how much memory it plans, and the command line for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lhcc
from lhcc.ccode.types import Type, literal, parse
from lhcc.cli import main
from lhcc.errors import LhccError, TargetError, ToolMissing
from lhcc.targets import base
from tests.ccode.conftest import DIGITS, Models


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "net"
    command = ["compile", str(DIGITS / "vgg_lhc_free.onnx"), "-o", str(folder), "--emit", "c", "--name", "digits"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told["files"]) == sorted(path.name for path in folder.iterdir())
    assert told["name"] == "digits" and told["arena_bytes"] > 0 and told["weight_bytes"] > 0
    assert f"#define DIGITS_ARENA_BYTES {told['arena_bytes']}\n" in (folder / "digits.h").read_text()
    (folder / "mine.txt").write_text("kept")
    assert main(command) == 0  # over what was there
    assert (folder / "mine.txt").exists() and "digits.c" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--emit", "c", "--name", "2 fast"], "'2 fast' is no identifier of C"),
        (["--emit", "c", "--name", "int"], "'int' is no identifier of C"),
        (["--emit", "c", "--name", "größe"], "'größe' is no identifier of C"),
        (["--emit", "rust"], "'rust' is nothing that can be emitted"),
        (["--emit", "c", "--weights", "zip"], "'zip' is no form of weights"),
        (["--emit", "c", "--target", "cortex-m7", "--weights", "binary"], "there is no file of weights"),
        (["--emit", "so", "--target", "cortex-m7"], "no shared libraries without an operating system"),
        (["--emit", "c", "--io", "integer"], "a model of floats has no integers to take"),
        (["--emit", "c", "--target", "raspbery-pi-4"], "did you mean 'raspberry-pi-4'"),
        (["--emit", "c", "--target", "fpga"], "target 'fpga' has no C"),
        (["--emit", "c", "--max-ram", "4K"], "bytes of RAM, 4,096 are allowed: too many in layer '"),
        (["--emit", "a", "--max-flash", "10K"], "bytes of flash, 10,240 are allowed"),
        (["--name", "net"], "an artifact has no names of C"),
    ],
)
def test_mistakes(arguments: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(DIGITS / "vgg_lhc_free.onnx")
    assert main(["compile", model, "-o", str(tmp_path / "out"), *arguments]) == 2
    told = capsys.readouterr()
    assert complaint in told.err and told.err.startswith("error: ") and told.err.count("\n") <= 2
    assert not list(tmp_path.iterdir())


def test_a_missing_cross_compiler(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *a, **k: None if "-gcc" in name else which(name, *a, **k))
    with pytest.raises(ToolMissing, match="aarch64-linux-gnu-gcc was not found\n  apt-get install gcc-aarch64-linux-"):
        lhcc.emit(models["block"], tmp_path / "libnet.so", "raspberry-pi-4", form="so")
    assert not list(tmp_path.iterdir())
    lhcc.emit(models["block"], tmp_path / "net", "raspberry-pi-4")  # C needs no compiler here


def test_a_file_is_no_folder(models: Models, tmp_path: Path) -> None:
    (tmp_path / "net").write_text("mine")
    with pytest.raises(LhccError, match="it is a file"):
        lhcc.emit(models["block"], tmp_path / "net")
    with pytest.raises(LhccError, match="there is no folder"):
        lhcc.emit(models["block"], tmp_path / "a" / "b")
    assert (tmp_path / "net").read_text() == "mine"


def test_nothing_is_left_of_a_failure(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lhcc.ccode import source

    def fail(*_: Any) -> Any:
        yield "half of the weights"
        raise KeyboardInterrupt

    monkeypatch.setattr(source, "weights", fail)
    with pytest.raises(KeyboardInterrupt):
        lhcc.emit(models["block"], tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_the_arena_of_a_chain() -> None:
    """Two neighbouring maps are alive at once, and little else."""
    from lhcc.ccode.network import network
    from lhcc.compiler import make_options, read_model
    from lhcc.runtime.steps import read

    for model in ("vgg.onnx", "vgg_lhc_free.onnx"):
        lowered = read_model(str(DIGITS / model), base.parse("cpu"), make_options({}), None, None).lower()
        sizes = [life.size for life in read(lowered.mod["main"]).temporaries]
        inside = sizes[:-1]  # the last is the caller's
        largest = max(a + b for a, b in zip(inside, inside[1:], strict=False))
        assert largest <= network("net", lowered).arena <= 1.15 * largest


def test_workspaces_are_planned(models: Models) -> None:
    """What kernels need for themselves lies in the arena, and not on the stack."""
    from lhcc.ccode.network import network
    from lhcc.compiler import make_options, read_model

    weights = np.where(np.random.default_rng(0).random((64, 64, 3, 3)) < 0.05, 1, 0).astype(np.float32)
    import onnx
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 64, 14, 14))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 64, 14, 14))],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    options = make_options({"threads": 2})
    net = network("net", read_model(helper.make_model(graph), base.parse("cpu"), options, None, None).lower())
    spaces = [kernel.workspace for kernel in net.kernels]
    assert any(spaces) and net.arena >= max(spaces)
    for kernel in net.kernels:
        assert ("unsigned char *workspace" in kernel.text) == bool(kernel.workspace)


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (1.0, "float32", "1.0f"), (-0.0, "float32", "-0.0f"), (0.1, "float32", "0.1f"), (1e30, "float32", "1e+30f"),
        (float("inf"), "float64", "INFINITY"), (float("-inf"), "float32", "-INFINITY"),
        (float("nan"), "float32", "NAN"),
        (-(1 << 31), "int32", "(-2147483647 - 1)"), (-(1 << 63), "int64", "INT64_MIN"), (255, "uint8", "255u"),
        (True, "bool", "1"),
    ],
)  # fmt: skip
def test_literals(value: float, dtype: str, text: str) -> None:
    assert literal(value, Type(dtype)) == text


def test_types_without_a_name_in_c() -> None:
    assert parse("int8x16") == Type("int8", 16)
    with pytest.raises(TargetError, match="float16 cannot be written as C"):
        parse("float16x4")
