"""Presets: their data, a user's own, what they change in the generated code, and every mistake in them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lhcc.errors import TargetError, ToolMissing
from lhcc.ir.layer import ConvLayer
from lhcc.runtime.library import import_tvm
from lhcc.targets import base, boards

import_tvm()

from lhcc.targets.cpu.encode import encode  # noqa: E402
from lhcc.targets.cpu.machine import Machine  # noqa: E402
from lhcc.targets.cpu.pack import pack  # noqa: E402

NAMES = sorted(boards.known())


@pytest.mark.parametrize("name", NAMES)
def test_llvm_knows_every_preset(name: str) -> None:
    target = base.parse(name)
    board = boards.known()[name]
    assert target.machine.mcpu == board.cpu  # type: ignore[attr-defined]
    assert (target.machine.l1, target.machine.l2) == (board.l1, board.l2)  # type: ignore[attr-defined]
    assert str(target.tvm_target().attrs["mtriple"]) == board.triple
    assert board.about and board.package


@pytest.mark.parametrize(
    ("name", "lanes", "registers"),
    [
        ("x86-64-v2", 4, 16), ("x86-64-v3", 8, 16), ("x86-64-v4", 16, 32), ("raspberry-pi-4", 4, 32),
        ("apple-m1", 4, 32), ("armv7", 4, 16), ("riscv64", 4, 8), ("riscv64-rvv", 4, 32), ("cortex-m7", 4, 8),
    ],
)  # fmt: skip
def test_vectors(name: str, lanes: int, registers: int) -> None:
    machine = base.parse(name).machine  # type: ignore[attr-defined]
    assert (machine.lanes, machine.registers) == (lanes, registers)


def test_arguments_replace_those_of_a_preset() -> None:
    assert base.parse("raspberry-pi-4:mcpu=cortex-a53").machine.mcpu == "cortex-a53"  # type: ignore[attr-defined]
    assert base.parse("riscv64:mattr=m+a+f+d+v+zvl256b").machine.lanes == 8  # type: ignore[attr-defined]


def layer(channels: int = 64, size: int = 16) -> ConvLayer:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((channels, channels, 3, 3)).astype(np.float32)
    weight[:, rng.random((channels, 3, 3)) < 0.7] = 0
    return ConvLayer(
        name="conv", op="conv2d", weight=weight, bias=np.zeros(channels, np.float32),
        image=(1, channels, size, size), result=(1, channels, size, size), strides=(1, 1), padding=(1, 1, 1, 1),
        dilation=(1, 1), groups=1, activation="relu", residual="", source="blocked", target="blocked",
        kernel=(3, 3), transposed=False,
    )  # fmt: skip


def test_packing_follows_the_preset() -> None:
    """The same layer on boards of different vectors, registers, and caches is divided differently."""
    options = base.Options()
    found = {name: pack(layer(), base.parse(name).machine, options).schedule for name in  # type: ignore[attr-defined]
             ("x86-64-v4", "raspberry-pi-4", "armv7", "riscv64")}  # fmt: skip
    assert len(set(found.values())) == len(found), found
    machine: Machine = base.parse("aarch64").machine  # type: ignore[attr-defined]
    small = dataclasses.replace(machine, l1=2 << 10, l2=16 << 10)
    schedules = {
        (channels, size): [pack(layer(channels, size), m, options).schedule for m in (machine, small)]
        for channels, size in ((64, 16), (64, 32), (32, 56), (128, 8))
    }
    assert any(usual != cramped for usual, cramped in schedules.values()), schedules


def test_single_weights_follow_the_preset() -> None:
    weight = np.where(np.random.default_rng(1).random((64, 64, 3, 3)) < 0.1, 1, 0).astype(np.float32)
    sparse = dataclasses.replace(layer(), weight=weight)
    found = [encode(sparse, base.parse(n).machine, base.Options()) for n in ("x86-64-v4", "armv7")]  # type: ignore[attr-defined]
    wide, narrow = (f if isinstance(f, str) else f.schedule for f in found)
    assert wide != narrow


def test_a_users_own_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[mine]\nlike = "raspberry-pi-5"\nabout = "My board"\nl1 = "48K"\nram = 131072\nfma = 1\n'
    file = tmp_path / "my.boards.toml"
    file.write_text(text)
    target: Any = base.parse(f"{file}:mine:mattr=dotprod")
    assert (target.board.ram, target.machine.l1, target.machine.mcpu) == (131072, 48 << 10, "cortex-a76")
    assert target.machine.mattr == ("+dotprod",)
    (tmp_path / "lhcc").mkdir()
    (tmp_path / "lhcc" / "targets.toml").write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert base.parse("mine").machine.fma == 1.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[a]\ntripel = 'x'", "'tripel' of preset 'a' .* is unknown\n  did you mean 'triple'"),
        ("[a]\ncpu = 'x'", "has no triple"),
        ("[a]\ntriple = 5", "'triple' of preset 'a' in .* is 5\n  write text"),
        ("[a]\ntriple = 'x'\nfma = -1", "is -1\n  write a number of 0 or more"),
        ("[a]\ntriple = 'x'\nl1 = '5 potatoes'", "'5 potatoes' is not a size\n  write bytes, or 256K"),
        ("[a]\nlike = 'raspbery-pi-4'", "which is no preset\n  did you mean 'raspberry-pi-4'"),
        ("[a]\nlike = 'b'\n[b]\nlike = 'a'", "which is itself"),
        ("[a\n", "is not TOML"),
        ("a = 1", "'a' in .* is outside a preset"),
        ("[a]\ntriple = 'aarch64-linux-gnu'\ncpu = 'cortex-z9'", "LLVM knows no processor 'cortex-z9'"),
    ],
)
def test_mistakes_in_a_file(text: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / "boards.toml"
    file.write_text(text)
    with pytest.raises(TargetError, match=complaint):
        base.parse(f"{file}:a")


def test_names_that_are_unknown() -> None:
    with pytest.raises(TargetError, match="'raspbery-pi-4' is unknown\n  did you mean 'raspberry-pi-4'"):
        base.parse("raspbery-pi-4")
    with pytest.raises(TargetError, match="known are .*apple-m1"):
        base.parse("zzz")
    with pytest.raises(TargetError, match="cannot read nowhere.toml"):
        base.parse("nowhere.toml:mine")
    with pytest.raises(TargetError, match="no architecture 'riscv64gc', .*riscv64gc-linux-gnu begins\n  did you mean"):
        base.parse("cpu:mtriple=riscv64gc-linux-gnu")
    with pytest.raises(TargetError, match="LLVM knows no feature 'neonn' for aarch64-linux-gnu\n  did you mean 'neon'"):
        base.parse("cpu:mtriple=aarch64-linux-gnu,mattr=neonn")
    with pytest.raises(TargetError, match="None is no target"):
        base.parse(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "bytes_"), [("0", 0), ("4096", 4096), ("256K", 256 << 10), ("1.5m", 3 << 19)])
def test_sizes(text: str, bytes_: int) -> None:
    assert boards.size(text) == bytes_


@pytest.mark.parametrize("text", ["", "K", "-1", "4T", "nan", "infM"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(TargetError, match="is not a size"):
        boards.size(text)


def test_a_board_without_an_operating_system_runs_no_artifacts(small_module: Any) -> None:
    from lhcc.runtime.build import build

    with pytest.raises(TargetError, match="'cortex-m7' runs no artifacts.*\n.*--emit c"):
        build(small_module, base.parse("cortex-m7"))


def test_missing_cross_tools_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from lhcc.runtime.toolchain import c_compiler, shared_library_linker

    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissing, match="apt-get install binutils-arm-linux-gnueabihf"):
        shared_library_linker("armv7l", "linux")
    with pytest.raises(ToolMissing, match="no linker for aarch64 under macOS.*\n.*apt-get install lld"):
        shared_library_linker("aarch64", "macos")
    with pytest.raises(ToolMissing, match="aarch64-linux-gnu-gcc was not found\n  apt-get install gcc-aarch64"):
        c_compiler("aarch64-linux-gnu", boards.known()["raspberry-pi-4"].package)


@pytest.fixture
def small_module() -> Any:
    import onnx
    from onnx import helper

    from lhcc.frontend import import_model
    from lhcc.pipeline import lower

    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 3, 8, 8))
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 4, 6, 6))
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], [weight]))
    return lower(import_model(model, None, None), base.parse("cortex-m7"), base.Options())
