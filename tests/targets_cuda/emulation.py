"""Runs models compiled for CUDA without a GPU: the source that TVM generated, compiled for this processor.

Everything but the machine code is what a GPU gets: kernels, launches, tables, packed weights, memory plan, runtime.
"""

from __future__ import annotations

import functools
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lhcc
from lhcc.runtime import cuda_driver
from lhcc.runtime.cuda import CudaExecutable
from lhcc.runtime.program import Program
from lhcc.targets.cuda import codegen, nvcc
from lhcc.targets.cuda.codegen import Source

HERE = Path(__file__).parent
SIGNATURE = re.compile(r'extern "C" __global__ void __launch_bounds__\([\d, ]+\) (\w+)\(([^)]*)\) \{')


@functools.cache
def _folder() -> Path:
    made = tempfile.TemporaryDirectory(prefix="lhcc-emulation-")
    _kept.append(made)
    return Path(made.name)


_kept: list[Any] = []


def _compile(text: str, *options: str) -> Path:
    key = sha256((text + (HERE / "emulate.h").read_text()).encode()).hexdigest()[:20]
    library = _folder() / f"{key}.so"
    if not library.exists():
        source = library.with_suffix(".cpp")
        source.write_text(text)
        command = [
            "g++",
            "-std=c++17",
            "-shared",
            "-fPIC",
            "-w",
            "-I",
            str(HERE),
            *options,
            "-o",
            str(library),
            str(source),
        ]
        done = subprocess.run([*command, "-ldl"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]
    return library


@functools.cache
def driver() -> Path:
    """The library that takes the place of NVIDIA's."""
    return _compile((HERE / "fake_driver.cpp").read_text(), "-O1")


def compile_emulated(*sources: Source, optimise: str = "-O1") -> Path:
    """The kernels of networks as one library for the fake driver: to compile many at once takes little longer than one.
    Those of network 3 get names that begin with `n3_`."""
    text = "\n".join(renamed(source.text, number) for number, source in enumerate(sources))
    # hardware whose kernels wait for each other has a copy engine, too
    launches = ((number, launch) for number, source in enumerate(sources) for launch in source.launches.values())
    modern = {f"n{number}_{launch.kernel}" for number, launch in launches if launch.waits}
    lines = ['#include "emulate.h"', text]
    for name, parameters in SIGNATURE.findall(text):
        types = [p.rpartition(" ")[0].replace("__restrict__", "") for p in parameters.split(",") if p.strip()]
        passed = ", ".join(f"*({kind}*)a[{number}]" for number, kind in enumerate(types))
        lines.append(f'extern "C" int arguments_{name} = {len(types)};')
        lines.append(f'extern "C" void run_{name}(void** arguments, int x, int y, int threads, int shared) {{')
        lines.append(f"  emulated::block.engine = {int(name in modern)};")
        lines.append(f"  run_grid([](void** a) {{ {name}({passed}); }}, arguments, x, y, threads, shared);\n}}")
    return _compile("\n".join(lines), optimise)


def renamed(text: str, number: int) -> str:
    names = {name for name, _ in SIGNATURE.findall(text)}
    return re.sub(r"\b\w+_kernel\w*\b", lambda m: f"n{number}_{m[0]}" if m[0] in names else m[0], text)


def on_emulator(program: Program, library: Path, number: int = 0) -> CudaExecutable:
    """The same program with code for the emulator, as network `number` of a library."""
    records = json.loads(program.bytecode)
    for record in records.values():
        record["kernel"] = f"n{number}_{record['kernel']}"
    code = f"emulated:{library}\0".encode()
    return CudaExecutable(replace(program, code=code, bytecode=json.dumps(records).encode()))


def compile_without_gpu(*calls: tuple[Any, str, dict[str, Any]]) -> list[CudaExecutable]:
    """`lhcc.compile` of every (model, target, options), with code for the emulator."""
    sources: list[Source] = []
    usual = codegen.generate

    def generate(*arguments: Any) -> Source:
        sources.append(usual(*arguments))
        return sources[-1]

    with (
        patch("lhcc.targets.cuda.build.generate", generate),
        patch.object(nvcc, "compile_source", lambda text, arch: (b"", [])),
    ):
        compiled = [lhcc.compile(model, target, **options) for model, target, options in calls]
    library = compile_emulated(*sources)
    return [on_emulator(executable.program, library, number) for number, executable in enumerate(compiled)]


@contextmanager
def emulated_gpu() -> Iterator[None]:
    """Inside, the emulator's driver takes the place of NVIDIA's."""
    with patch.object(cuda_driver, "LIBRARY", str(driver())):
        yield
