"""Runs models compiled for CUDA without a GPU: the source that TVM generated, compiled for this processor.

Everything but the machine code is what a GPU gets: kernels, launches, tables, packed weights, memory plan, runtime.
"""

from __future__ import annotations

import functools
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

from lhcc.runtime import cuda_driver
from lhcc.runtime.cuda import CudaExecutable
from lhcc.targets.cuda import build, nvcc
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
        command = ["g++", "-std=c++17", "-shared", "-fPIC", "-w", "-I", str(HERE), *options, "-o", str(library), str(source)]
        done = subprocess.run([*command, "-ldl"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:4000]
    return library


@functools.cache
def driver() -> Path:
    """The library that takes the place of NVIDIA's."""
    return _compile((HERE / "fake_driver.cpp").read_text(), "-O1")


def compile_emulated(source: Source, optimise: str = "-O1") -> Path:
    """The kernels of a network as a library for the fake driver."""
    lines = ['#include "emulate.h"', source.text]
    for name, parameters in SIGNATURE.findall(source.text):
        types = [p.rpartition(" ")[0].replace("__restrict__", "") for p in parameters.split(",") if p.strip()]
        passed = ", ".join(f"*({kind}*)a[{number}]" for number, kind in enumerate(types))
        lines.append(f'extern "C" int arguments_{name} = {len(types)};')
        lines.append(f'extern "C" void run_{name}(void** arguments, int x, int y, int threads, int shared) {{')
        lines.append(f"  run_grid([](void** a) {{ {name}({passed}); }}, arguments, x, y, threads, shared);\n}}")
    return _compile("\n".join(lines), optimise)


@contextmanager
def emulated() -> Iterator[None]:
    """Inside, CUDA executables run on the emulated GPU, and nvcc is not needed to compile one."""
    sources: dict[str, Source] = {}
    usual = build.generate

    def generate(*arguments: Any) -> Source:
        source = usual(*arguments)
        sources[source.complete()] = source
        return source

    def compile_source(text: str, arch: str) -> tuple[bytes, list[nvcc.Usage]]:
        return f"emulated:{compile_emulated(sources[text])}\0".encode(), []

    with (
        patch.object(build, "generate", generate),
        patch.object(nvcc, "compile_source", compile_source),
        patch.object(cuda_driver, "LIBRARY", str(driver())),
    ):
        yield


def on_emulator(executable: CudaExecutable, source: Source) -> CudaExecutable:
    """The same program, with code for the emulator."""
    return CudaExecutable(replace(executable.program, code=f"emulated:{compile_emulated(source)}\0".encode()))
