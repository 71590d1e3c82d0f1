"""What is measured on a GPU, in one process: our executable, and PyTorch's two fastest ways to run the same network.

Every contender enqueues one run on a stream without waiting; runs are timed by the GPU's events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lhcc.runtime.cuda import CudaExecutable
from lhcc.runtime.cuda_driver import Driver

WARMUP = 5


@dataclass(frozen=True)
class Contender:
    name: str
    enqueue: Callable[[], None]
    stream: int
    answer: NDArray[Any] | None  # of the example
    version: str = ""
    kept: tuple[Any, ...] = ()  # what a graph reads and writes: memory that nobody holds may be unmapped


def ours(executable: CudaExecutable, x: NDArray[Any]) -> Contender:
    answer = executable(x)
    loaded = executable.loaded()
    places = tuple(loaded.inputs), tuple(loaded.outputs)
    return Contender("lhcc", lambda: loaded.run(*places, loaded.stream), loaded.stream, answer)


def cudnn(model: Path, x: NDArray[Any]) -> Contender:
    """PyTorch's own kernels in channels_last, with cuDNN's search for the fastest, in a CUDA graph."""
    torch, network, example = _network(model, x)
    torch.backends.cudnn.benchmark = True
    return _graph("cudnn", torch, network, example)


def inductor(model: Path, x: NDArray[Any]) -> Contender:
    """torch.compile with all it tries, in a CUDA graph of ours: its own would copy the input."""
    torch, network, example = _network(model, x)
    from torch._inductor import config

    config.freezing = True
    compiled = torch.compile(network, mode="max-autotune-no-cudagraphs")
    return _graph("inductor", torch, compiled, example)


def _network(model: Path, x: NDArray[Any]) -> tuple[Any, Any, Any]:
    import torch

    from benchmarks.onnx_to_torch import to_torch

    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch sees no GPU")
    network = to_torch(model).eval().half().cuda().to(memory_format=torch.channels_last)
    return torch, network, torch.from_numpy(x).half().cuda().to(memory_format=torch.channels_last)


def _graph(name: str, torch: Any, network: Any, example: Any) -> Contender:
    stream = torch.cuda.Stream()
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(3):
            network(example)
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            result = network(example)
        graph.replay()
        stream.synchronize()

    def enqueue() -> None:
        with torch.cuda.stream(stream):
            graph.replay()

    kept = network, example, result
    return Contender(name, enqueue, stream.cuda_stream, result.float().cpu().numpy(), torch.__version__, kept)


def milliseconds(driver: Driver, contender: Contender, count: int) -> float:
    """Of one run, over `count` of them one after another."""
    start, end = driver.event(), driver.event()
    driver.enter()
    driver.record(start, contender.stream)
    for _ in range(count):
        contender.enqueue()
    driver.record(end, contender.stream)
    driver.synchronise(contender.stream)
    return driver.microseconds(start, end) / 1e3 / count


def runs_per_slice(driver: Driver, contender: Contender, slice_ms: float) -> int:
    """How many runs take about so long, after a few that warm up."""
    once = milliseconds(driver, contender, WARMUP)
    return max(2, min(1000, int(slice_ms / max(once, 1e-3))))
