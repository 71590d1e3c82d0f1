"""Which C compiler serves a target, and how its programs run elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lhcc.errors import TargetError
from lhcc.runtime.machine import host_arch
from lhcc.runtime.toolchain import LINUX, c_compiler


@dataclass(frozen=True)
class Compiler:
    """`tools` is what the names of compiler and archiver begin with; "" means this machine's own."""

    tools: str
    flags: tuple[str, ...]
    arch: str
    package: str = "gcc"
    emulator: str = ""
    board: Any = None

    @property
    def command(self) -> str:
        return f"{self.tools}-gcc" if self.tools else "cc"

    @property
    def archiver(self) -> str:
        return f"{self.tools}-ar" if self.tools else "ar"

    @property
    def bare(self) -> bool:
        """Whether there is no operating system."""
        return self.board is not None and "-none-" in self.board.triple

    def find(self) -> str:
        """The command's path; ToolMissing names the package."""
        return c_compiler(self.tools or f"{host_arch()}-linux-gnu", self.package)


def compiler_of(target: Any) -> Compiler:
    board, machine = target.board, target.machine
    if board is not None:
        arch = board.triple.split("-")[0]
        return Compiler(board.tools, board.flags, arch, board.package, board.emulator if board.tools else "", board)
    if not machine.mtriple:
        return Compiler("", _flags(machine.mcpu, host_arch()), host_arch())
    arch = machine.mtriple.split("-")[0]
    if arch not in LINUX:
        raise TargetError(f"which C compiler is for '{machine.mtriple}' is not known", "name a preset: lhcc targets")
    chain = LINUX[arch]
    return Compiler(chain.tools, _flags(machine.mcpu, arch), arch, f"gcc-{chain.debian}")


def _flags(mcpu: str, arch: str) -> tuple[str, ...]:
    """LLVM and GCC call most processors the same."""
    from tvm.target.codegen import llvm_get_system_cpu

    if arch == host_arch() and mcpu == str(llvm_get_system_cpu()):
        return ("-march=native",)
    if mcpu.startswith("generic"):
        return ()
    return (f"-march={mcpu}",) if arch == "x86_64" else (f"-mcpu={mcpu}",)
