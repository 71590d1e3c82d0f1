"""Kernels to CUDA source by TVM's code generator, and how each of them is launched."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx
from tvm.s_tir.pipeline import default_s_tir_pipeline

from lhcc.ir.tir import is_lowered
from lhcc.targets.cuda.tir import WAIT

WAITING = 90  # from this capability on, kernels can wait for the one before: see device.cuh
CALLBACK = "tvm_callback_cuda_compile"
DEVICE = Path(__file__).with_name("device.cuh")


@dataclass(frozen=True)
class Launch:
    """How a kernel is started: its name in the code, sizes, and which operands it takes, in its own order."""

    kernel: str
    grid: tuple[int, int]
    threads: int
    shared: int
    operands: tuple[int, ...]
    waits: bool = False  # for what the kernel before it writes: it may begin before that one has ended


@dataclass(frozen=True)
class Source:
    """The kernels of a network as TVM wrote them, without the device functions that they call."""

    text: str
    launches: Mapping[str, Launch]

    def complete(self) -> str:
        """What nvcc compiles."""
        return f"{DEVICE.read_text()}\n{self.text}"

    def unlimited(self, kernels: Collection[str]) -> Source:
        """The same with as many registers for these kernels as they want."""
        bounds = rf"__launch_bounds__\((\d+)(?:, \d+)?\) ({'|'.join(map(re.escape, kernels))})\("
        return replace(self, text=re.sub(bounds, r"__launch_bounds__(\1, 1) \2(", self.text))


def tvm_target(arch: str) -> Any:
    return tvm.target.Target({"kind": "cuda", "arch": arch}, host="llvm")


def generate(kernels: Mapping[str, Any], arch: str) -> Source:
    """Every PrimFunc, whose threads are bound and whose launch is noted, as one kernel."""
    target = tvm_target(arch)
    named = {name: function.with_attr("global_symbol", name) for name, function in kernels.items()}
    device: dict[Any, Any] = {}
    for written in (True, False):
        group = {n: f for n, f in named.items() if is_lowered(f) == written}
        if group:
            device.update(_split(tvm.IRModule(group), target, written))
    waits = int(arch.removeprefix("sm_")) >= WAITING
    launches = {name: replace(_launch(name, f, device), waits=waits) for name, f in named.items()}
    module = _module(tvm.IRModule(device), target)
    text = str(module.inspect_source())
    text = text[text.index('extern "C" __global__') :]
    text = re.sub(r"\b(\d\w*_ptr)\b", r"operand_\1", text)  # operands are named like layers, which may be numbers
    for name, function in named.items():
        text = _limit_registers(text, launches[name], int(function.attrs["lhcc.launch"][4]))
    return Source(_overlapping(text), launches)


def _overlapping(text: str) -> str:
    """Every kernel lets the next one begin, and waits for the one before where its generator has not placed that."""
    signatures = r'(?=extern "C" __global__)'
    return "".join(map(_overlapping_kernel, re.split(signatures, text)))


def _overlapping_kernel(text: str) -> str:
    first = "  let_next_begin();\n" + ("" if WAIT in text else f"  {WAIT}();\n")
    return re.sub(r"^(extern .*\) \{\n)", lambda head: head[0] + first, text, count=1)


def _limit_registers(text: str, launch: Launch, held: int) -> str:
    """Says how many thread blocks a multiprocessor holds: left alone, the compiler spills to hold one more."""
    bounds = f"__launch_bounds__({launch.threads}) {launch.kernel}("
    return text.replace(bounds, f"__launch_bounds__({launch.threads}, {held}) {launch.kernel}(") if held else text


def _split(mod: tvm.IRModule, target: Any, written: bool) -> dict[Any, Any]:
    """The device functions of the module: those that our generators wrote need very little, the rest TVM's pipeline."""
    if written:
        order = [
            tirx.transform.BindTarget(target),
            tirx.transform.FlattenBuffer(),
            tirx.transform.StmtSimplify(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
            tirx.transform.LowerIntrin(),
        ]
    else:
        order = [tirx.transform.BindTarget(target), default_s_tir_pipeline()[0], tirx.transform.LowerIntrin()]
    with target, tvm.transform.PassContext(opt_level=3):
        mod = tvm.ir.transform.Sequential(order)(mod)
    return {gv: f for gv, f in mod.functions.items() if "tirx.kernel_launch_params" in (f.attrs or {})}


def _launch(name: str, function: Any, device: Mapping[Any, Any]) -> Launch:
    found = [gv for gv in device if re.fullmatch(re.escape(name) + r"_kernel(_\d+)?", gv.name_hint)]
    assert len(found) == 1, f"{name} became {len(found)} kernels"
    names = [_bare(_name(param)) for param in function.params]
    operands = tuple(names.index(_bare(_name(param))) for param in device[found[0]].params)
    grid_x, grid_y, threads, shared, _ = (int(n) for n in function.attrs["lhcc.launch"])
    return Launch(found[0].name_hint, (grid_x, grid_y), threads, shared, operands)


def _name(param: Any) -> str:
    return str(param.name)


def _bare(name: str) -> str:
    return name.removesuffix("_ptr").removesuffix("_handle")


def _module(mod: tvm.IRModule, target: Any) -> Any:
    """TVM's code generator ends by calling a compiler: ours comes later, for all kernels of a network at once."""
    usual = tvm_ffi.get_global_func(CALLBACK, allow_missing=True)
    tvm_ffi.register_global_func(CALLBACK, lambda code, *_: b"", override=True)
    try:
        return tvm_ffi.get_global_func("target.build.cuda")(mod, target)
    finally:
        if usual is not None:
            tvm_ffi.register_global_func(CALLBACK, usual, override=True)
