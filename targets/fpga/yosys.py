"""What Yosys makes of a stage: cells by kind, kept on disk, because a large module takes minutes.

Modules keep to themselves and are mapped once each, however many instances there are: flat, an array's sixteen copies
of its arithmetic take sixteen times as long."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lhcc.errors import ToolMissing
from lhcc.targets.fpga.verilator import cache_folder

FAMILIES = {
    "xilinx": "synth_xilinx -family xc7 -nodsp -noiopad -noclkbuf",
    "ice40": "synth_ice40",
}
_LUTS = {
    **{f"LUT{k}": 1 for k in range(1, 7)}, "SRL16E": 1, "SRLC32E": 1, "RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2,
    "RAM64X1D": 2, "RAM128X1D": 4, "SB_LUT4": 1,
}  # fmt: skip
"""LUTs that a cell takes; those of memories and shift registers count too"""
_MEMORIES = {"RAMB18E1": 1, "RAMB36E1": 2, "SB_RAM40_4K": 1}


@dataclass(frozen=True)
class Cells:
    counts: Mapping[str, int]

    @property
    def luts(self) -> int:
        return sum(n * self.counts.get(kind, 0) for kind, n in _LUTS.items())

    @property
    def flip_flops(self) -> int:
        return sum(n for kind, n in self.counts.items() if kind.startswith(("FD", "SB_DFF")))

    @property
    def half_memories(self) -> int:
        """block memories of 18 kbit (of 4 kbit on the iCE40)"""
        return sum(n * self.counts.get(kind, 0) for kind, n in _MEMORIES.items())


def synthesise(
    files: Mapping[str, str], top: str, family: str = "xilinx", parameters: Mapping[str, int] | None = None
) -> Cells:
    """Synthesises module `top` of the `.v` files; the other files are memories that they read."""
    if not shutil.which("yosys"):
        raise ToolMissing("Yosys is not installed, and it counts the gates", "install the package yosys")
    chosen = "".join(f"chparam -set {name} {value} {top}; " for name, value in (parameters or {}).items())
    flow = f"{chosen}{FAMILIES[family]}"
    key = hashlib.sha256(repr((_version(), flow, top, sorted(files.items()))).encode()).hexdigest()[:24]
    kept = cache_folder() / "yosys" / f"{key}.json"
    if kept.exists():
        return Cells(json.loads(kept.read_text()))
    with tempfile.TemporaryDirectory(prefix="lhcc-yosys-") as folder:
        for name, text in files.items():
            (Path(folder) / name).write_text(text)
        sources = " ".join(name for name in files if name.endswith(".v"))
        script = f"read_verilog {sources}; {flow} -top {top}; tee -o cells.txt stat"
        done = subprocess.run(["yosys", "-q", "-p", script], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"yosys failed on {top}:\n{done.stderr[-2000:]}")
        text = (Path(folder) / "cells.txt").read_text()
    whole = text.rpartition("===")[2]  # one section a module, then all of them, each as often as it is used
    counts = {kind: int(n) for kind, n in re.findall(r"^ +([A-Z]\w+) +(\d+)$", whole, re.MULTILINE)}
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{hashlib.sha256(folder.encode()).hexdigest()[:8]}")
    part.write_text(json.dumps(counts))
    part.replace(kept)
    return Cells(counts)


@cache
def _version() -> str:
    return subprocess.run(["yosys", "-V"], capture_output=True, text=True, check=False).stdout.strip()
