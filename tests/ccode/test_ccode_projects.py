"""Networks as C projects: without warnings, under sanitizers, on other processors, and without a system."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lhcc.ccode import bare
from lhcc.targets import boards
from tests.ccode.conftest import SANITIZED, make, need

Written = Callable[..., Path]
BOARDS = {
    "raspberry-pi-4": ("aarch64-linux-gnu-gcc", "qemu-aarch64"),
    "armv7": ("arm-linux-gnueabihf-gcc", "qemu-arm"),
    "riscv64": ("riscv64-linux-gnu-gcc", "qemu-riscv64"),
}


@pytest.mark.parametrize("model", ["digits", "lenet", "block"])
def test_gcc(model: str, written: Written, tmp_path: Path) -> None:
    make(written(model), tmp_path, "all", "CFLAGS=-O2 -pedantic")


@pytest.mark.parametrize("model", ["lenet", "block", "integers"])
def test_clang(model: str, written: Written, tmp_path: Path) -> None:
    need("clang")
    make(written(model), tmp_path, "CC=clang", "CFLAGS=-O1 -pedantic")


def slow(*values: str) -> Any:
    """A case that takes compilers many seconds."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("model", [slow("digits"), slow("lenet"), "block", "scattered", "integers"])
def test_sanitizers(model: str, written: Written, tmp_path: Path) -> None:
    make(written(model), tmp_path, SANITIZED)


@pytest.mark.parametrize("model", ["block", "scattered", "integers"])
def test_without_vector_extensions(model: str, written: Written, tmp_path: Path) -> None:
    make(written(model), tmp_path, "CFLAGS=-O0 -pedantic -DLHCC_PORTABLE -fsanitize=undefined -fno-sanitize-recover")


@pytest.mark.parametrize("model", ["block", slow("integers")])
def test_wide_vectors_where_there_are_none(model: str, written: Written, tmp_path: Path) -> None:
    """The compiler divides them; what AVX-512 has instructions for is spelled out."""
    make(written(model, "x86-64-v4"), tmp_path, "TARGET=-march=x86-64-v2", "CFLAGS=-O1")


def test_weights_in_a_file(written: Written, tmp_path: Path) -> None:
    folder = written("block", weights="binary")
    make(folder, tmp_path, SANITIZED)
    (tmp_path / "build" / "net_weights.bin").write_bytes(b"short")
    done = subprocess.run(["./test.out"], cwd=tmp_path / "build", capture_output=True, text=True)
    assert done.returncode == 1 and "weights cannot be read" in done.stderr


@pytest.mark.parametrize("model", ["block", "integers"])
def test_threads(model: str, written: Written, tmp_path: Path) -> None:
    folder = written(model, threads=3)
    assert "#pragma omp parallel for" in (folder / "net.c").read_text()
    make(folder, tmp_path / "with", "OPENMP=1", "CFLAGS=-O1")
    make(folder, tmp_path / "without", "CFLAGS=-O1")


def test_cmake(written: Written, tmp_path: Path) -> None:
    need("cmake")
    build = tmp_path / "build"
    for command in (
        ["cmake", "-S", str(written("block")), "-B", str(build), "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"],
        ["cmake", "--build", str(build)],
        ["ctest", "--test-dir", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.qemu
def test_cmake_without_an_operating_system(written: Written, tmp_path: Path) -> None:
    need("cmake", "arm-none-eabi-gcc", "qemu-system-arm")
    build = tmp_path / "build"
    known = ["-DCMAKE_SYSTEM_NAME=Generic", "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY"]
    source = written("integers", "cortex-m7", io="integer")
    configure = ["cmake", "-S", str(source), "-B", str(build), "-DCMAKE_C_COMPILER=arm-none-eabi-gcc", *known]
    for command in (configure, ["cmake", "--build", str(build)]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    run = [*bare.emulation(boards.known()["cortex-m7"]).split(), str(build / "net_test")]
    assert "0 of 10 numbers differ" in subprocess.run(run, capture_output=True, text=True).stdout


def test_nothing_but_its_own_symbols(written: Written, tmp_path: Path) -> None:
    """All that others can see begins with the network's name; all that it needs is libc and libm, and no memory."""
    make(written("block"), tmp_path, "CFLAGS=-O1")
    listed = subprocess.run(["nm", "libnet.a"], cwd=tmp_path / "build", capture_output=True, text=True, check=True)
    symbols = re.findall(r"([A-Za-z]) (\w+)$", listed.stdout, re.M)
    assert {name for kind, name in symbols if kind in "TDBRG" and not name.startswith("net_")} == set()
    assert {kind for kind, _ in symbols} & set("BbDdC") == set()  # nothing that could be written to
    wanted = {name for kind, name in symbols if kind == "U" and not name.startswith("net_")}
    assert wanted <= {"expf", "floor", "floorf", "memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}, wanted


def test_the_example_reads_files(written: Written, tmp_path: Path) -> None:
    make(written("block"), tmp_path, "all", "CFLAGS=-O1")
    build = tmp_path / "build"
    (build / "x.bin").write_bytes(b"\x00\x00\x80\x3f" * 3 * 21 * 21)  # ones
    zeros, ones = (
        subprocess.run(["./example", *more], cwd=build, capture_output=True, text=True, check=True).stdout
        for more in ([], ["x.bin"])
    )
    assert zeros.count("\n") == ones.count("\n") == 11 + 16 * 11 * 11
    assert zeros != ones


@pytest.mark.qemu
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("model", ["digits", "lenet", "block", "integers"])
def test_other_processors(board: str, model: str, written: Written, tmp_path: Path) -> None:
    need(*BOARDS[board])
    make(written(model, board), tmp_path, "CFLAGS=-O1")


@pytest.mark.qemu
def test_dot_products_of_bytes(written: Written, tmp_path: Path) -> None:
    """By an instruction where the compiler's processor has one, spelled out elsewhere."""
    need(*BOARDS["raspberry-pi-4"])
    folder = written("integers", "raspberry-pi-5")
    assert "vdotq_s32" in (folder / "net.c").read_text()
    for number, flags in enumerate(["-mcpu=cortex-a76", "-mcpu=cortex-a72"]):
        make(folder, tmp_path / str(number), f"TARGET={flags}", "CFLAGS=-O1")


@pytest.mark.qemu
@pytest.mark.parametrize("model", ["lenet", "integers"])
def test_without_an_operating_system(model: str, written: Written, tmp_path: Path) -> None:
    """Cortex-M7: linked with nothing below it, run by QEMU's model of a board."""
    need("arm-none-eabi-gcc", "qemu-system-arm")
    how: dict[str, Any] = {"io": "integer"} if model == "integers" else {}
    printed = make(written(model, "cortex-m7", **how), tmp_path, "CFLAGS=-O2")
    if model == "integers":
        assert "0 of 10 numbers differ" in printed


def test_integers_need_no_floating_point(written: Written, tmp_path: Path) -> None:
    """Not even emulated: a Cortex-M3 has none, and nothing of its library is asked for."""
    need("arm-none-eabi-gcc")
    folder = written("integers", "cortex-m7", io="integer")
    text = (folder / "net.c").read_text()
    assert not re.search(r"\b(float|double|f32x\d+|f64x\d+)\b", text)
    assert "no floating-point unit" in (folder / "README.md").read_text()
    shutil.copytree(folder, tmp_path / "net")
    command = ["arm-none-eabi-gcc", "-std=c99", "-O2", "-mcpu=cortex-m3", "-mthumb", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, "-c", "net.c"], cwd=tmp_path / "net", check=True)
    wanted = subprocess.run(["arm-none-eabi-nm", "-u", "net.o"], cwd=tmp_path / "net", capture_output=True, text=True)
    assert [s for s in re.findall(r"U (\w+)", wanted.stdout) if not s.startswith("net_")] == []


@pytest.mark.slow
@pytest.mark.qemu
def test_vgg16_on_aarch64(tmp_path: Path) -> None:
    import lhcc
    from benchmarks.models import network_file

    need(*BOARDS["raspberry-pi-4"])
    lhcc.emit(str(network_file("vgg16-cifar", 0.1, tmp_path)), tmp_path / "net", "raspberry-pi-4", name="net")
    make(tmp_path / "net", tmp_path)
