"""Compilers and linkers for other machines, under the names that Debian gives them, or under those of a preset."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from lhcc.errors import ToolMissing
from lhcc.runtime.machine import host_arch


@dataclass(frozen=True)
class Toolchain:
    """`tools` begins the names of compiler and linker; `emulation` is the linker's word for the format."""

    tools: str
    emulation: str

    @property
    def debian(self) -> str:
        """How the tools' names begin in names of packages."""
        return self.tools.replace("_", "-")


LINUX = {
    "x86_64": Toolchain("x86_64-linux-gnu", "elf_x86_64"),
    "aarch64": Toolchain("aarch64-linux-gnu", "aarch64linux"),
    "armv7l": Toolchain("arm-linux-gnueabihf", "armelf_linux_eabi"),
    "riscv64": Toolchain("riscv64-linux-gnu", "elf64lriscv"),
}
LLD = ["ld64.lld", *(f"ld64.lld-{version}" for version in range(25, 12, -1))]  # Debian numbers it
ELF = ("--strip-all", "--hash-style=gnu", "--build-id=none", "-z", "noexecstack", "-z", "noseparate-code")
MACOS = ("-arch", "arm64", "-platform_version", "macos", "11.0", "11.0", "-dylib", "-undefined", "dynamic_lookup")


def shared_library_linker(arch: str, system: str, tools: str = "") -> list[str]:
    """The command that links objects to a shared library, all but its input and output.

    Symbols of the C library are left open: the runtime library brings them into the process.
    """
    if system == "macos":
        return [_first(LLD, f"no linker for {arch} under macOS was found", "lld"), *MACOS]
    own = ["ld"] if arch == host_arch() else []
    chain = LINUX.get(arch, Toolchain(f"{arch}-linux-gnu", arch))
    prefix = tools or chain.tools
    package = "binutils" if own else f"binutils-{chain.debian}"
    found = _first([f"{prefix}-ld", *own, "ld.lld"], f"no linker for {arch} was found", package)
    return [found, "-m", chain.emulation, "-shared", *ELF]


def c_compiler(tools: str, package: str) -> str:
    """The C compiler whose name begins with `tools`; for this machine also the one that it calls its own."""
    own = ["gcc", "cc"] if tools.startswith(f"{host_arch()}-") else []
    return _first([f"{tools}-gcc", *own], f"the C compiler {tools}-gcc was not found", package)


def _first(names: list[str], message: str, package: str) -> str:
    for name in names:
        path = shutil.which(name)
        if path:
            return path
    raise ToolMissing(message, f"apt-get install {package}")
