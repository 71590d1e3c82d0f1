"""What emulation needs: QEMU, the runner for the other processor, the counter for this one; both built at first use."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lhcc.errors import TargetError, ToolMissing
from lhcc.runtime.files import cache_folder
from lhcc.runtime.program import Program
from lhcc.runtime.toolchain import c_compiler
from lhcc.targets import boards
from lhcc.targets.boards import Board

HERE = Path(__file__).parent
RUNNER = ("-O1", "-std=gnu11", "-Wl,--no-as-needed", "-ldl", "-lm", "-lgcc_s")
COUNTER = ("-O2", "-std=gnu11", "-shared", "-fPIC", "-fvisibility=hidden")
VERSIONS = (1, 2, 3, 4, 5)  # of QEMU's interface for plugins: the first that it accepts


@dataclass(frozen=True)
class Emulator:
    """A processor that QEMU plays: `command` runs a program on it."""

    board: Board
    qemu: str
    compiler: str
    libraries: str  # the folder under which the other processor's C library lies

    @property
    def command(self) -> list[str]:
        return [self.qemu, "-L", self.libraries, *(["-cpu", self.board.emulated] if self.board.emulated else [])]

    @property
    def name(self) -> str:
        playing = f" as {self.board.emulated}" if self.board.emulated else ""
        return f"{os.path.basename(self.qemu)} {_version(self.qemu)}{playing}"

    def runner(self) -> Path:
        return _built(HERE / "runner.c", self.compiler, RUNNER)


def emulator(program: Program) -> Emulator:
    """The emulator of the board that the program was compiled for, or of any processor that can run it."""
    known = boards.known()
    machine = program.machine
    board = known.get(program.target) or known.get(_usual(program))
    if board is None or machine.system != "linux" or "artifact" not in board.forms or not board.emulator:
        emulated = sorted(name for name, b in known.items() if b.emulator and "artifact" in b.forms)
        raise TargetError(
            f"code for {program.target} ({machine.arch} under {machine.system}) is not emulated",
            f"presets that are: {', '.join(emulated)}",
        )
    qemu = shutil.which(board.emulator)
    if qemu is None:
        raise ToolMissing(f"{board.emulator} was not found, and emulation needs it", "apt-get install qemu-user")
    compiler = c_compiler(board.tools, board.package)
    return Emulator(board, qemu, compiler, _libraries(compiler, board.tools))


def _usual(program: Program) -> str:
    vectors = "-rvv" if "v" in program.machine.features else ""
    usual = {"aarch64": "aarch64", "armv7l": "armv7", "riscv64": f"riscv64{vectors}", "x86_64": "x86-64-v3"}
    return usual.get(program.machine.arch, "")


@functools.cache
def _libraries(compiler: str, tools: str) -> str:
    asked = subprocess.run([compiler, "-print-sysroot"], capture_output=True, text=True).stdout.strip()
    if asked not in ("", "/"):
        return asked
    return f"/usr/{tools}" if Path(f"/usr/{tools}/lib").is_dir() else "/"


@functools.cache
def _version(qemu: str) -> str:
    said = subprocess.run([qemu, "--version"], capture_output=True, text=True).stdout.split()
    return said[said.index("version") + 1] if "version" in said[:-1] else ""


@functools.cache
def counter(command: tuple[str, ...]) -> tuple[Path | None, str]:
    """The plugin that counts instructions, and why there is none; `command` runs some program that does nothing."""
    host = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if host is None:
        return None, "instructions are not counted: there is no C compiler here, apt-get install gcc"
    said = ""
    for version in VERSIONS:
        plugin = _built(HERE / "counter.c", host, (*COUNTER, f"-DPLUGIN_VERSION={version}"))
        with tempfile.TemporaryDirectory(prefix="lhcc-") as folder:
            counts = Path(folder) / "counts"
            tried = subprocess.run(
                [command[0], "-plugin", f"{plugin},to={counts}", *command[1:]], capture_output=True, text=True
            )
            if counts.exists():
                return plugin, ""
            said = (tried.stderr.strip().splitlines() or ["it takes no plugins"])[0]
    return None, f"instructions are not counted: {os.path.basename(command[0])} says: {said}"


def _built(source: Path, compiler: str, flags: Sequence[str]) -> Path:
    """`source` compiled, from the cache if it was compiled before."""
    text = source.read_bytes()
    digest = hashlib.sha256(text + "\0".join((compiler, *flags)).encode()).hexdigest()[:16]
    built = cache_folder() / f"{source.stem}-{digest}"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
            fresh = Path(scratch) / source.stem
            done = subprocess.run([compiler, "-o", str(fresh), str(source), *flags], capture_output=True, text=True)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
                raise ToolMissing(
                    f"{compiler} cannot compile {source.name}: {lines[0].strip()}",
                    "its C library may be missing: apt-get install libc6-dev-arm64-cross, -armhf-cross, -riscv64-cross",
                )
            os.replace(fresh, built)
    return built
