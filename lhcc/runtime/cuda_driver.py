"""NVIDIA's driver through its C interface: memory, code, launches, graphs and events.  Nothing else is needed.

The primary context is used, which PyTorch and every program of CUDA's runtime use too: pointers and streams can be
exchanged with them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, byref, c_char, c_float, c_int, c_size_t, c_ubyte, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

from lhcc.errors import TargetError

LIBRARY = "libcuda.so.1"
# numbers of the driver's interface
CLOCK_KHZ, PROCESSORS, MEMORY_KHZ, BUS_BITS, MAJOR, MINOR = 13, 16, 36, 37, 75, 76
DYNAMIC_SHARED = 8  # attribute of a function
NO_IMAGE, BAD_PTX, OLD_DRIVER = 209, 218, 222  # results of loading code
ALL_HAVE_BEGUN, OVERLAPPING = 1, 1  # a kernel's port and the kind of edge from there: programmatic dependent launch
OVERLAPPING_SINCE = 12030  # version of the driver


class KernelNode(ctypes.Structure):
    """A kernel launch in a graph."""

    _fields_ = [
        ("function", c_void_p),
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared", c_uint),
        ("arguments", POINTER(c_void_p)),
        ("extra", c_void_p),
        ("kernel", c_void_p),
        ("context", c_void_p),
    ]


class Edge(ctypes.Structure):
    """How one node of a graph depends on another."""

    _fields_ = [("from_port", c_ubyte), ("to_port", c_ubyte), ("kind", c_ubyte), ("reserved", c_ubyte * 5)]


class NoDriver(TargetError):
    """There is no GPU to run on."""


@cache
def _library(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        raise NoDriver(
            f"the model is for an NVIDIA GPU, and this machine has no NVIDIA driver ({name} is not found)",
            "run it on a machine with a GPU; lhcc doctor says what is here",
        ) from None


def version() -> str | None:
    """The CUDA version of the driver; None where there is none."""
    try:
        found = _version()
    except NoDriver:
        return None
    return f"{found // 1000}.{found % 1000 // 10}" if found else None


def _version() -> int:
    """The same as the driver puts it, 12030 for 12.3; 0 where it does not answer."""
    found = c_int()
    return 0 if _library(LIBRARY).cuDriverGetVersion(byref(found)) else found.value


@dataclass(frozen=True)
class Function:
    """A kernel that is loaded."""

    handle: int
    grid: tuple[int, int]
    threads: int
    shared: int
    waits: bool = False  # its code waits for the kernel before it, which it may overlap


class Driver:
    """One GPU.  Raises TargetError with a sentence when there is none."""

    def __init__(self, index: int = 0) -> None:
        self.library = _library(LIBRARY)
        count, device, context = c_int(), c_int(), c_void_p()
        fault = self.library.cuInit(c_uint(0))
        if fault or self.library.cuDeviceGetCount(byref(count)) or index >= count.value:
            reason = f"the driver answers {self._error(fault)}" if fault else f"the driver sees {count.value} GPUs"
            raise NoDriver(f"no GPU can be used: {reason}", "lhcc doctor says what is here")
        self.call("cuDeviceGet", byref(device), index)
        self.call("cuDevicePrimaryCtxRetain", byref(context), device)
        self.index, self._device, self._context = index, device, context
        self.enter()

    def enter(self) -> None:
        """Makes the GPU that of the calling thread."""
        self.call("cuCtxSetCurrent", self._context)

    def call(self, name: str, *arguments: Any) -> None:
        fault = getattr(self.library, name)(*arguments)
        if fault:
            raise RuntimeError(f"{name} failed: {self._error(fault)}")

    def _error(self, number: int) -> str:
        text = ctypes.c_char_p()
        self.library.cuGetErrorName(c_int(number), byref(text))
        return text.value.decode() if text.value else f"error {number}"

    # ---- what it is
    def attribute(self, number: int) -> int:
        found = c_int()
        self.call("cuDeviceGetAttribute", byref(found), number, self._device)
        return found.value

    @property
    def name(self) -> str:
        text = (c_char * 256)()
        self.call("cuDeviceGetName", text, 256, self._device)
        return text.value.decode()

    @property
    def capability(self) -> int:
        return 10 * self.attribute(MAJOR) + self.attribute(MINOR)

    @property
    def overlaps(self) -> bool:
        """Whether a graph's kernels that wait can begin before the ones before them have ended."""
        return self.capability >= 90 and _version() >= OVERLAPPING_SINCE

    # ---- memory
    def allocate(self, size: int) -> int:
        pointer = c_uint64()
        self.call("cuMemAlloc_v2", byref(pointer), c_size_t(max(size, 256)))
        return pointer.value

    def free(self, pointer: int) -> None:
        self.library.cuMemFree_v2(c_uint64(pointer))

    def upload(self, pointer: int, source: int, size: int, stream: int = 0) -> None:
        self.call("cuMemcpyHtoDAsync_v2", c_uint64(pointer), c_void_p(source), c_size_t(size), c_void_p(stream))

    def download(self, target: int, pointer: int, size: int, stream: int = 0) -> None:
        self.call("cuMemcpyDtoHAsync_v2", c_void_p(target), c_uint64(pointer), c_size_t(size), c_void_p(stream))

    def copy(self, target: int, source: int, size: int, stream: int = 0) -> None:
        self.call("cuMemcpyDtoDAsync_v2", c_uint64(target), c_uint64(source), c_size_t(size), c_void_p(stream))

    def fill(self, pointer: int, byte: int, size: int, stream: int = 0) -> None:
        self.call("cuMemsetD8Async", c_uint64(pointer), c_ubyte(byte), c_size_t(size), c_void_p(stream))

    # ---- code
    def load(self, code: bytes) -> int:
        module = c_void_p()
        fault = self.library.cuModuleLoadData(byref(module), code)
        if fault in (NO_IMAGE, BAD_PTX, OLD_DRIVER):
            raise TargetError(
                f"the model's code does not fit this GPU: {self.name} is sm_{self.capability} ({self._error(fault)})",
                f"compile the model with target cuda:arch=sm_{self.capability}, or update the driver",
            )
        if fault:
            raise RuntimeError(f"cuModuleLoadData failed: {self._error(fault)}")
        return module.value or 0

    def unload(self, module: int) -> None:
        self.library.cuModuleUnload(c_void_p(module))

    def function(
        self, module: int, name: str, grid: tuple[int, int], threads: int, shared: int, waits: bool = False
    ) -> Function:
        handle = c_void_p()
        self.call("cuModuleGetFunction", byref(handle), c_void_p(module), name.encode())
        if shared > 48 << 10:
            self.call("cuFuncSetAttribute", handle, DYNAMIC_SHARED, shared)
        return Function(handle.value or 0, grid, threads, shared, waits)

    def launch(self, function: Function, arguments: Any, stream: int) -> None:
        self.call(
            "cuLaunchKernel", c_void_p(function.handle), *function.grid, 1, function.threads, 1, 1, function.shared,
            c_void_p(stream), arguments, None,
        )  # fmt: skip

    # ---- order
    def stream(self) -> int:
        handle = c_void_p()
        self.call("cuStreamCreate", byref(handle), c_uint(1))  # does not wait for the default stream
        return handle.value or 0

    def synchronise(self, stream: int) -> None:
        self.call("cuStreamSynchronize", c_void_p(stream))

    def event(self) -> int:
        handle = c_void_p()
        self.call("cuEventCreate", byref(handle), c_uint(0))
        return handle.value or 0

    def record(self, event: int, stream: int) -> None:
        self.call("cuEventRecord", c_void_p(event), c_void_p(stream))

    def wait(self, event: int, stream: int) -> None:
        """What follows in `stream` waits for the event."""
        self.call("cuStreamWaitEvent", c_void_p(stream), c_void_p(event), c_uint(0))

    def microseconds(self, start: int, end: int) -> float:
        found = c_float()
        self.call("cuEventElapsedTime", byref(found), c_void_p(start), c_void_p(end))
        return found.value * 1e3


def arguments(pointers: Sequence[int]) -> tuple[Any, Any]:
    """Kernel arguments, and the memory that they lie in, which has to be kept."""
    values = (c_uint64 * len(pointers))(*pointers)
    start = ctypes.addressof(values)
    return (c_void_p * len(pointers))(*(start + 8 * i for i in range(len(pointers)))), values


class Graph:
    """A sequence of launches that the GPU runs without the processor.  Arguments can be exchanged between runs."""

    def __init__(self, driver: Driver, launches: Sequence[tuple[Function, Sequence[int]]]) -> None:
        self.driver = driver
        self.functions = [function for function, _ in launches]
        self.nodes: list[c_void_p] = []
        self.graph, self.executable = c_void_p(), c_void_p()  # the first must live on: its nodes are named by exchange
        driver.call("cuGraphCreate", byref(self.graph), c_uint(0))
        can_overlap = driver.overlaps
        for function, pointers in launches:
            node, before = c_void_p(), (c_void_p * 1)(*self.nodes[-1:])
            parameters, _kept = self._parameters(function, pointers)
            overlaps = function.waits and can_overlap
            count = c_size_t(0 if overlaps else min(1, len(self.nodes)))
            driver.call("cuGraphAddKernelNode_v2", byref(node), self.graph, before, count, byref(parameters))
            if overlaps and self.nodes:
                edge = Edge(ALL_HAVE_BEGUN, 0, OVERLAPPING)
                driver.call("cuGraphAddDependencies_v2", self.graph, before, byref(node), byref(edge), c_size_t(1))
            self.nodes.append(node)
        driver.call("cuGraphInstantiateWithFlags", byref(self.executable), self.graph, c_uint64(0))

    def _parameters(self, function: Function, pointers: Sequence[int]) -> tuple[KernelNode, Any]:
        places, values = arguments(pointers)
        block = (c_uint * 3)(function.threads, 1, 1)
        node = KernelNode(
            function.handle, (c_uint * 3)(*function.grid, 1), block, function.shared, places, None, None, None
        )
        return node, values

    def exchange(self, number: int, pointers: Sequence[int]) -> None:
        """From the next run on, launch `number` takes these arguments."""
        parameters, _kept = self._parameters(self.functions[number], pointers)
        self.driver.call("cuGraphExecKernelNodeSetParams_v2", self.executable, self.nodes[number], byref(parameters))

    def launch(self, stream: int) -> None:
        self.driver.call("cuGraphLaunch", self.executable, c_void_p(stream))

    def close(self) -> None:
        self.driver.library.cuGraphExecDestroy(self.executable)
        self.driver.library.cuGraphDestroy(self.graph)
