"""CUDA's compiler: where it is, running it, and what it says about registers and shared memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from lhcc.errors import ToolMissing
from lhcc.runtime.files import scratch

INSTALL = "pip install 'lhcc[cuda]', or install the CUDA toolkit"
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\d+)'")
SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True)
class Usage:
    """What one kernel takes, by the compiler's report."""

    kernel: str
    arch: str
    registers: int
    stack: int  # bytes of arrays that did not become registers
    spills: int  # bytes stored and loaded because registers ran out
    shared: int  # static; what kernels of ours take is in their launch


@cache
def find() -> str | None:
    """The compiler's path: from PATH, the usual place, or NVIDIA's wheels."""
    candidates = [Path(found)] if (found := shutil.which("nvcc")) else []
    candidates.append(Path("/usr/local/cuda/bin/nvcc"))
    spec = find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        candidates += sorted(Path(folder).glob("*/bin/nvcc"), reverse=True)
    return next((str(path) for path in candidates if os.access(path, os.X_OK)), None)


def compile_source(text: str, arch: str) -> tuple[bytes, list[Usage]]:
    """Machine code for `arch`, with PTX for later architectures beside it, and what each kernel takes."""
    nvcc = find()
    if nvcc is None:
        raise ToolMissing("CUDA's compiler, nvcc, was not found", INSTALL)
    number = arch.removeprefix("sm_")
    with scratch() as folder:
        (folder / "kernels.cu").write_text(text)
        command = [
            nvcc, "-fatbin", "-O3", "-std=c++17", "--resource-usage",
            f"-gencode=arch=compute_{number},code=[sm_{number},compute_{number}]",
            "-diag-suppress", "177,550,1046",  # functions and variables that a kernel does not use
            "-o", str(folder / "kernels.fatbin"), str(folder / "kernels.cu"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"nvcc failed: {' '.join(command)}\n{done.stdout}{done.stderr}")
        return (folder / "kernels.fatbin").read_bytes(), usage(done.stdout + done.stderr)


def usage(report: str) -> list[Usage]:
    """The compiler's report on every kernel."""
    found: list[Usage] = []
    for part in re.split(r"(?=ptxas info\s*: Compiling entry function)", report):
        entry, spills, used = ENTRY.search(part), SPILLS.search(part), USED.search(part)
        if entry and spills and used:
            stack, stored, loaded = map(int, spills.groups())
            registers, shared = int(used[1]), int(used[2] or 0)
            found.append(Usage(entry[1], entry[2], registers, stack, stored + loaded, shared))
    return found
