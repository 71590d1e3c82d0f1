"""Kernels to machine code: TVM's lowering and LLVM, then the system's linker, into one shared library in memory."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tvm import IRModule, tirx, transform
from tvm.target import Target

from lhcc.ir import tir_pipeline
from lhcc.ir.tir import EFFORT
from lhcc.report.progress import report
from lhcc.runtime.files import scratch
from lhcc.runtime.machine import ARCHITECTURES, host_arch, host_system, needed
from lhcc.runtime.program import Machine
from lhcc.runtime.toolchain import shared_library_linker

CONFIG = {"tirx.disable_assert": True}  # our own bytecode calls the kernels: shapes were checked at compile time
GROUPS_PER_JOB = 4  # a few groups per thread even out their different costs


def compile_kernels(
    kernels: Mapping[str, Any],
    target: Target,
    pass_config: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    tools: str = "",
    modules: Sequence[Any] = (),
) -> bytes:
    """A shared library that holds each PrimFunc of `kernels` under its name, and what runtime modules hold."""
    jobs = jobs or os.cpu_count() or 1
    groups = _groups(kernels, 1 if jobs == 1 else jobs * GROUPS_PER_JOB) if kernels else []
    count = len(groups)
    with scratch() as folder:

        def compile_group(number: int) -> Path:
            path = folder / f"kernels{number}.o"
            effort, names = groups[number]
            module = IRModule({name: kernels[name].with_attr("global_symbol", name) for name in names})
            with transform.PassContext(opt_level=3, config={**CONFIG, **(pass_config or {})}):
                tirx.build(module, _with(effort, target), pipeline=tir_pipeline.NAME).write_to_file(str(path))
            return path

        objects = [folder / f"module{number}.o" for number in range(len(modules))]
        for path, compiled in zip(objects, modules, strict=True):
            compiled.write_to_file(str(path))
        report("compiling kernels", 0, count)
        for path in _each(compile_group, count, jobs):
            objects.append(path)
            report("compiling kernels", len(objects) - len(modules), count)
        return link(objects, target, folder / "kernels.so", tools)


def _groups(kernels: Mapping[str, Any], count: int) -> list[tuple[int, list[str]]]:
    """About `count` groups of names of kernels to be compiled together, each with LLVM's level of optimisation."""
    by_effort: dict[int, list[str]] = {}
    for name in sorted(kernels):
        by_effort.setdefault(int((kernels[name].attrs or {}).get(EFFORT, 3)), []).append(name)
    found = []
    for effort, names in by_effort.items():
        parts = max(1, min(len(names), count * len(names) // len(kernels)))
        found += [(effort, names[part::parts]) for part in range(parts)]
    return found


def _with(effort: int, target: Target) -> Target:
    return target if effort == 3 else Target({**target.export(), "opt-level": effort})


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


def link(objects: Sequence[Path], target: Target, output: Path, tools: str = "") -> bytes:
    """Links object files to a shared library, with the linker whose name begins with `tools` if that is given."""
    start = shared_library_linker(arch_of(target), system_of(target), tools)
    command = [*start, "-o", str(output), *map(str, objects)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the linker failed: {' '.join(command)}\n{done.stderr}")
    return output.read_bytes()


def arch_of(target: Target) -> str:
    triple = str(target.attrs.get("mtriple", ""))
    return ARCHITECTURES.get(arch := triple.split("-")[0], arch) if triple else host_arch()


def system_of(target: Target) -> str:
    triple = str(target.attrs.get("mtriple", ""))
    return "macos" if "apple" in triple else "linux" if triple else host_system()


def machine_of(target: Target) -> Machine:
    """What code for this target needs of the processor, by LLVM's own list of features."""
    from tvm.target.codegen import llvm_get_cpu_features

    features = [str(feature) for feature in llvm_get_cpu_features(target)]
    return needed(arch_of(target), features, system_of(target))
