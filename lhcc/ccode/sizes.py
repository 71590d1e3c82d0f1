"""How much memory a network takes on a board without an operating system, as its C compiler and linker tell.

The stack is static: GCC writes the call graph with the size of every frame (-fcallgraph-info=su), and the deepest way
through it counts.  The library's functions are in no such graph: they are named instead.  Code, weights and context
are read from the map that the linker writes of the example.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lhcc.ccode.compiler import Compiler
from lhcc.errors import ToolMissing
from lhcc.report.progress import report

OPTIMISED = "-O3"  # as the Makefile does

NODE = re.compile(r'^node: \{ title: "([^"]+)" label: "[^"]*?(?:\\n(\d+) bytes \(([\w,]+)\))?"', re.M)
EDGE = re.compile(r'^edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"', re.M)
SECTION = re.compile(r"^ \.(text|rodata|bss)(\S*)\s+0x[0-9a-f]+\s+0x([0-9a-f]+) (\S+)$", re.M)


class DoesNotLink(Exception):
    """The example does not fit the memory that memory.ld describes: in the linker's words."""


@dataclass(frozen=True)
class Sizes:
    """Bytes; `stack` is what a run needs at most, `deepest` the calls that need it."""

    compiler: str
    stack: int
    deepest: tuple[str, ...]
    library: tuple[str, ...]  # functions of the C library that a run calls: their stack is not counted
    context: int
    code: int
    weights: int

    def __str__(self) -> str:
        beside = f" and what {', '.join(self.library)} need" if self.library else ""
        return (
            f"as {self.compiler} {OPTIMISED} builds it: stack {self.stack:,} bytes{beside}"
            f" ({' > '.join(self.deepest)}), context {self.context:,}, code {self.code:,}, weights {self.weights:,}"
        )


def measure(folder: Path, name: str, compiler: Compiler) -> Sizes:
    """Builds the example in `folder`, which is the caller's to remove."""
    gcc = compiler.find()
    if shutil.which("make") is None:
        raise ToolMissing("make was not found", "apt-get install make")
    report("building for its size", 0, 1)
    built = _run(["make", "-s", "example", f"CFLAGS={OPTIMISED} -fcallgraph-info=su"], folder)
    if built.returncode:
        overflow = re.search(r"region .* overflowed by \d+ bytes", built.stderr)
        if overflow is None:
            raise RuntimeError(f"the compiler failed:\n{built.stderr}")
        raise DoesNotLink(overflow.group())
    report("building for its size", 1, 1)
    stack, deepest = stack_of(f"{name}_run", (folder / f"{name}.ci").read_text())
    wanted = _run([gcc.removesuffix("gcc") + "nm", "-u", f"{name}.o"], folder).stdout.split()
    library = tuple(sorted({symbol for symbol in wanted if symbol != "U" and not symbol.startswith(f"{name}_")}))
    sections = sections_of((folder / "example.map").read_text())
    version = _run([gcc, "-dumpfullversion"], folder).stdout.strip()
    code = sections["text", f"{name}.o"] + sections["rodata", f"{name}.o"]
    weights = sections["rodata", f"{name}_weights.o"]
    return Sizes(f"{compiler.command} {version}", stack, deepest, library, sections["context", ""], code, weights)


def stack_of(entry: str, graph: str) -> tuple[int, tuple[str, ...]]:
    """The bytes of stack of the deepest chain of calls, and its functions."""
    frames: dict[str, int] = {}
    for title, size, kind in NODE.findall(graph):
        if kind == "dynamic":
            raise ValueError(f"the stack of {title} has no bound")
        frames[title] = int(size or 0)
    calls: dict[str, list[str]] = {title: [] for title in frames}
    for caller, called in EDGE.findall(graph):
        calls[caller].append(called)
    size, chain = _deepest(entry, frames, calls, ())
    return size, tuple(re.sub(r"^.*:|\.\w+\.\d+$", "", title) for title in chain if frames[title])


def _deepest(
    title: str, frames: Mapping[str, int], calls: Mapping[str, Iterable[str]], above: tuple[str, ...]
) -> tuple[int, tuple[str, ...]]:
    if title in above:
        raise ValueError(f"{title} calls itself: its stack has no bound")
    below = (_deepest(called, frames, calls, (*above, title)) for called in dict.fromkeys(calls[title]))
    size, chain = max(below, default=(0, ()), key=lambda found: found[0])
    return frames[title] + size, (title, *chain)


def sections_of(text: str) -> Counter[tuple[str, str]]:
    """Bytes by kind of section and object file in a linker's map; ("context", "") is the example's own context."""
    found: Counter[tuple[str, str]] = Counter()
    _, _, placed = text.partition("Linker script and memory map")
    for kind, rest, size, file in SECTION.findall(placed):
        member = re.sub(r".*\(|\)$|.*/", "", file)
        key = ("context", "") if (kind, rest) == ("bss", ".context") else (kind, member)
        found[key] += int(size, 16)
    return found


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)
