"""Stack, code and context of a Cortex-M7: what compiler and linker say of them, against what a run touches."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lhcc
from lhcc.ccode import bare
from lhcc.ccode.sizes import sections_of, stack_of
from lhcc.cli import main
from lhcc.errors import TargetError
from lhcc.targets import boards
from tests.ccode.conftest import DIGITS, Models, need

GRAPH = r"""
node: { title: "net_run" label: "net_run\nnet.c:9:1\n32 bytes (static)" }
node: { title: "net.c:net_a" label: "net_a\nnet.c:1:1\n100 bytes (static)" }
node: { title: "net.c:net_b.part.0" label: "net_b.part\nnet.c:2:1\n80 bytes (dynamic,bounded)" }
node: { title: "net.c:net_c" label: "net_c\nnet.c:3:1\n40 bytes (static)" }
node: { title: "expf" label: "expf\n/usr/include/math.h:1:1" shape : ellipse }
edge: { sourcename: "net_run" targetname: "net.c:net_a" label: "net.c:10:1" }
edge: { sourcename: "net_run" targetname: "net.c:net_b.part.0" label: "net.c:11:1" }
edge: { sourcename: "net.c:net_b.part.0" targetname: "net.c:net_c" label: "net.c:4:1" }
edge: { sourcename: "net.c:net_c" targetname: "expf" label: "net.c:5:1" }
"""
# Fills the stack with a pattern, runs the network on it, and looks how deep the pattern is gone.
PAINT = """\
#include "net.h"
#include <stdio.h>

extern unsigned char end[];
static net_context context;
static INPUT x[SIZE];
static OUTPUT y[10];

int main(void)
{
    unsigned char *const top = (unsigned char *)(((uintptr_t)__builtin_frame_address(0) - 256) & ~(uintptr_t)7);
    for (volatile unsigned char *p = end; p < top; ++p)
        *p = 0xa5;
    __asm__ volatile("mov r4, sp\\n\\tmov sp, %0\\n\\tmov r0, %1\\n\\tmov r1, %2\\n\\tmov r2, %3\\n"
                     "\\tbl net_run\\n\\tmov sp, r4"
                     : : "r"(top), "r"(&context), "r"(x), "r"(y)
                     : "r0", "r1", "r2", "r3", "r4", "ip", "lr", "cc", "memory", "s0", "s1", "s2", "s3", "s4", "s5",
                       "s6", "s7", "s8", "s9", "s10", "s11", "s12", "s13", "s14", "s15");
    const unsigned char *p = end;
    while (*p == 0xa5)
        ++p;
    printf("%ld bytes of stack\\n", (long)(top - p));
    return 0;
}
"""


def test_the_deepest_calls() -> None:
    assert stack_of("net_run", GRAPH) == (152, ("net_run", "net_b", "net_c"))
    assert stack_of("net.c:net_a", GRAPH) == (100, ("net_a",))


def test_a_stack_without_a_bound_is_no_number() -> None:
    again = 'edge: { sourcename: "net.c:net_c" targetname: "net_run" label: "net.c:6:1" }\n'
    with pytest.raises(ValueError, match="net_run calls itself"):
        stack_of("net_run", GRAPH + again)
    with pytest.raises(ValueError, match="net_b.part.0 has no bound"):
        stack_of("net_run", GRAPH.replace("dynamic,bounded", "dynamic"))


def test_the_map() -> None:
    """Sections that were discarded do not count; long names have a line of their own."""
    text = """
 .text.unused   0x00000000       0xff libnet.a(net.o)
Linker script and memory map
 .text.net_run  0x00000040       0x10 libnet.a(net.o)
 .text.net_a_long_name
                0x00000050       0x20 libnet.a(net.o)
 .rodata.w      0x00000080       0x80 libnet.a(net_weights.o)
 .bss.context   0x20000000       0x48 example.o
 .bss.x         0x20000048       0x40 /tmp/example.o
"""
    found = sections_of(text)
    assert found == {
        ("text", "net.o"): 0x30, ("rodata", "net_weights.o"): 0x80, ("context", ""): 0x48, ("bss", "example.o"): 0x40
    }  # fmt: skip


@pytest.mark.qemu
@pytest.mark.parametrize("model", ["integers", "lenet"])
def test_the_stack_that_a_run_touches(model: str, written: Callable[..., Path], tmp_path: Path) -> None:
    need("arm-none-eabi-gcc", "qemu-system-arm", "make")
    how: dict[str, Any] = {"io": "integer"} if model == "integers" else {}
    folder = tmp_path / "net"
    shutil.copytree(written(model, "cortex-m7", **how), folder)
    text = (folder / "README.md").read_text()
    stack = int(re.search(r"stack of a run \| ([\d,]+)", text)[1].replace(",", ""))  # type: ignore[index]
    types = ["int8_t", "64", "int32_t"] if how else ["float", "784", "float"]
    defined = [f"-D{name}={value}" for name, value in zip(("INPUT", "SIZE", "OUTPUT"), types, strict=True)]
    (folder / "paint.c").write_text(PAINT)
    subprocess.run(["make", "-s", "libnet.a", "startup.o"], cwd=folder, check=True)
    link = ["-T", "memory.ld", "-nostartfiles", bare.LINK, "-lm"]
    board = boards.known()["cortex-m7"]
    command = ["arm-none-eabi-gcc", *board.flags, "-O1", *defined, "paint.c", "startup.o", "libnet.a", *link]
    subprocess.run([*command, "-o", "paint"], cwd=folder, check=True)
    emulator = bare.emulation(board).split()
    printed = subprocess.run([*emulator, "./paint"], cwd=folder, capture_output=True, text=True, timeout=120).stdout
    touched = int(printed.split()[0])
    assert 0.9 * stack <= touched <= stack, (touched, stack)


def test_the_report(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed, as data, and in the README; where the compiler is missing, why there is none."""
    need("arm-none-eabi-gcc", "make")
    done = lhcc.emit(models["digits"], tmp_path / "net", "cortex-m7", name="net")
    sizes = done.sizes
    assert sizes is not None and sizes.deepest[0] == "net_run" and 0 < sizes.stack < 2048
    assert done.arena_bytes <= sizes.context <= done.arena_bytes + 8
    assert 0.9 * done.weight_bytes <= sizes.weights <= done.weight_bytes  # what is between them aligns them
    assert f"stack {sizes.stack:,} bytes (net_run > " in str(done) and f"code {sizes.code:,}" in str(done)
    assert f"| stack of a run | {sizes.stack:,} |" in (tmp_path / "net" / "README.md").read_text()
    assert done.json()["sizes"]["stack"] == sizes.stack
    with pytest.raises(TargetError, match=f"with {sizes.code:,} bytes of code the {done.weight_bytes:,} bytes of weig"):
        lhcc.emit(models["digits"], tmp_path / "refused", "cortex-m7", name="net", max_flash=done.weight_bytes + 1000)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, *a, **k: None if "-gcc" in name else which(name, *a, **k))
    done = lhcc.emit(models["digits"], tmp_path / "unmeasured", "cortex-m7", name="net")
    assert done.sizes is None and "not measured: the C compiler arm-none-eabi-gcc was not found" in str(done)
    assert "apt-get install gcc-arm-none-eabi" in str(done)


def test_what_does_not_fit_the_machine(tmp_path: Path, models: Models) -> None:
    """The user knows better than the preset how much memory there is: the folder is written all the same."""
    need("arm-none-eabi-gcc", "make")
    (tmp_path / "boards.toml").write_text('[small]\nlike = "cortex-m7"\nram = "24K"\n')
    done = lhcc.emit(models["lenet"], tmp_path / "net", f"{tmp_path}/boards.toml:small", max_ram="1M")
    assert "not measured: region `RAM' overflowed" in str(done) and (tmp_path / "net" / "README.md").exists()


def test_inspect_for_a_board_that_runs_c_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(DIGITS / "vgg_lhc_free.onnx"), "--target", "cortex-m7"]) == 0
    told = capsys.readouterr().out
    assert "arena in use" in told and "RAM 16," in told
    assert re.search(r"^stage1\.1\.conv +conv2d_1 +\S+ +16,384$", told, re.M)
