"""Kernels to machine code: TVM's lowering and LLVM, then the system's linker, into one shared library in memory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tvm import IRModule, tirx, transform
from tvm.target import Target

from lhcc.errors import ToolMissing
from lhcc.ir import tir_pipeline
from lhcc.report.progress import report
from lhcc.runtime.files import scratch
from lhcc.runtime.machine import host_arch, needed
from lhcc.runtime.program import Machine

CONFIG = {"tirx.disable_assert": True}  # our own bytecode calls the kernels: shapes were checked at compile time
GROUPS_PER_JOB = 4  # a few groups per thread even out their different costs


def compile_kernels(
    kernels: Mapping[str, Any], target: Target, pass_config: Mapping[str, Any] | None = None, jobs: int | None = None
) -> bytes:
    """A shared library that holds each PrimFunc of `kernels` under its name."""
    jobs = jobs or os.cpu_count() or 1
    names = sorted(kernels)
    count = 1 if jobs == 1 else max(1, min(len(names), jobs * GROUPS_PER_JOB))
    groups = [names[i::count] for i in range(count)]
    with scratch() as folder:

        def compile_group(number: int) -> Path:
            path = folder / f"kernels{number}.o"
            module = IRModule({name: kernels[name].with_attr("global_symbol", name) for name in groups[number]})
            with transform.PassContext(opt_level=3, config={**CONFIG, **(pass_config or {})}):
                tirx.build(module, target, pipeline=tir_pipeline.NAME).write_to_file(str(path))
            return path

        objects = []
        report("compiling kernels", 0, count)
        for path in _each(compile_group, count, jobs):
            objects.append(path)
            report("compiling kernels", len(objects), count)
        return link(objects, arch_of(target), folder / "kernels.so")


def _each(work: Callable[[int], Path], count: int, jobs: int) -> Iterator[Path]:
    """The results of `work(0)` to `work(count - 1)`, in order; an interrupt does not wait for what was not begun."""
    if jobs == 1:
        yield from map(work, range(count))
        return
    pool = ThreadPoolExecutor(jobs)
    try:
        yield from pool.map(work, range(count))
    finally:
        pool.shutdown(cancel_futures=True)


def link(objects: Sequence[Path], arch: str, output: Path) -> bytes:
    """Links object files; symbols of the C library are left open: the runtime library brings them into the process."""
    command = [
        *_linker(arch),
        "-shared", "--strip-all", "--hash-style=gnu", "--build-id=none",
        "-z", "noexecstack", "-z", "noseparate-code",
        "-o", str(output), *map(str, objects),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the linker failed: {' '.join(command)}\n{done.stderr}")
    return output.read_bytes()


def arch_of(target: Target) -> str:
    triple = str(target.attrs.get("mtriple", ""))
    return triple.split("-")[0] if triple else host_arch()


def machine_of(target: Target) -> Machine:
    """What code for this target needs of the processor, by LLVM's own list of features."""
    from tvm.target.codegen import llvm_get_cpu_features

    return needed(arch_of(target), [str(feature) for feature in llvm_get_cpu_features(target)])


def _linker(arch: str) -> list[str]:
    cross = f"{arch}-linux-gnu-ld"
    for name in [cross, *(["ld"] if arch == host_arch() else []), "ld.lld"]:
        path = shutil.which(name)
        if path:
            return [path, "-m", {"x86_64": "elf_x86_64", "aarch64": "aarch64linux"}.get(arch, arch)]
    package = "binutils" if arch == host_arch() else f"binutils-{arch.replace('_', '-')}-linux-gnu"
    raise ToolMissing(f"no linker for {arch} was found", f"apt-get install {package}")
