"""A compiled model on an NVIDIA GPU: weights are uploaded once, every run is one launch of a graph of kernels.

Tensors of PyTorch on the GPU are read and written in place, on PyTorch's current stream; numpy arrays and tensors on
the CPU are copied to the GPU and back.  The GPU is looked for at the first call: a model can be compiled anywhere.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lhcc.errors import InputError
from lhcc.runtime.cuda_driver import Driver, Function, Graph
from lhcc.runtime.executable import Executable
from lhcc.runtime.program import Operand, Program, TensorSpec

if TYPE_CHECKING:
    from lhcc.runtime.profile import Profile


class Loaded:
    """A program on one GPU: its code, its weights, its memory, its graph."""

    def __init__(self, program: Program, driver: Driver) -> None:
        self.program, self.driver = program, driver
        self.stream = driver.stream()
        self.module = driver.load(program.code)
        records = json.loads(program.bytecode)
        functions = {name: self._function(record) for name, record in records.items()}
        self.weights = driver.allocate(program.weights.nbytes)
        driver.upload(self.weights, program.weights.ctypes.data, program.weights.nbytes, self.stream)
        self.arena = driver.allocate(program.arena_size)
        self.inputs = [driver.allocate(spec.nbytes) for spec in program.inputs]
        self.outputs = [driver.allocate(spec.nbytes) for spec in program.outputs]
        self.calls = [
            (functions[call.kernel], [call.operands[number] for number in records[call.kernel]["operands"]])
            for call in program.calls
        ]
        self.places = (tuple(self.inputs), tuple(self.outputs))
        self.graph = Graph(driver, self.launches(*self.places)) if self.calls else None
        self.done, self.last_stream = driver.event(), self.stream
        driver.synchronise(self.stream)

    def _function(self, record: dict[str, Any]) -> Function:
        grid = (record["grid"][0], record["grid"][1])
        return self.driver.function(
            self.module, record["kernel"], grid, record["threads"], record["shared"], record.get("waits", False)
        )

    def _pointer(self, operand: Operand, inputs: Sequence[int], outputs: Sequence[int]) -> int:
        if operand.kind == "input":
            return inputs[operand.at]
        if operand.kind == "output":
            return outputs[operand.at]
        return (self.weights if operand.kind == "weights" else self.arena) + operand.at

    def launches(self, inputs: Sequence[int], outputs: Sequence[int]) -> list[tuple[Function, list[int]]]:
        return [(function, [self._pointer(o, inputs, outputs) for o in operands]) for function, operands in self.calls]

    def run(self, inputs: tuple[int, ...], outputs: tuple[int, ...], stream: int) -> None:
        """Begins a run on these pointers; it has ended when what comes next in the stream begins."""
        driver = self.driver
        if (inputs, outputs) != self.places and self.graph is not None:
            for number, (_, operands) in enumerate(self.calls):
                if any(operand.kind in ("input", "output") for operand in operands):
                    self.graph.exchange(number, [self._pointer(o, inputs, outputs) for o in operands])
            self.places = (inputs, outputs)
        if stream != self.last_stream:  # runs share the arena
            driver.wait(self.done, stream)
            self.last_stream = stream
        if self.graph is not None:
            self.graph.launch(stream)
        for copy in self.program.copies:
            source = self._pointer(copy.source, inputs, outputs)
            driver.copy(outputs[copy.output], source, copy.source.nbytes, stream)
        driver.record(self.done, stream)

    def close(self) -> None:
        for pointer in (self.weights, self.arena, *self.inputs, *self.outputs):
            self.driver.free(pointer)
        if self.graph is not None:
            self.graph.close()
        self.driver.unload(self.module)


class CudaExecutable(Executable):
    """Call it with PyTorch tensors, on the GPU or not, or with numpy arrays; it answers in kind."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.threads = 1
        self.lock = threading.Lock()
        self._several = len(program.outputs) != 1
        self._loaded: Loaded | None = None
        self.usage: tuple[Any, ...] = ()  # what the compiler said about each kernel, where it was compiled just now

    def loaded(self, index: int | None = None) -> Loaded:
        """The program on the GPU that it runs on: the one of the first call."""
        if self._loaded is None:
            self._loaded = Loaded(self.program, Driver(index or 0))
        elif index is not None and index != self._loaded.driver.index:
            place = self._loaded.driver.index
            raise InputError(
                f"the model was loaded to GPU {place}, the input is on GPU {index}", f"x.to('cuda:{place}')"
            )
        return self._loaded

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Runs the model; inputs by position, or by name."""
        if named or len(inputs) != len(self.inputs):
            inputs = self._by_position(inputs, named)
        on_gpu = [getattr(x, "is_cuda", False) for x in inputs]
        if any(on_gpu):
            if not all(on_gpu):
                raise InputError("some inputs are on the GPU and some are not", "pass all of them alike")
            return self._run_on_gpu(inputs)
        return self._run_from_host(inputs)

    def _run_on_gpu(self, tensors: Sequence[Any]) -> Any:
        import torch

        device = tensors[0].device
        pairs = zip(self.inputs, tensors, strict=True)
        checked = [_fitting(spec, tensor.detach().contiguous(), device) for spec, tensor in pairs]
        with self.lock:
            loaded = self.loaded(device.index or 0)
            loaded.driver.enter()
            results = [torch.empty(s.shape, dtype=getattr(torch, s.dtype), device=device) for s in self.outputs]
            stream = torch.cuda.current_stream(device).cuda_stream
            loaded.run(tuple(t.data_ptr() for t in checked), tuple(t.data_ptr() for t in results), stream)
            for tensor in checked:  # its memory must not be given to others before the run has ended
                tensor.record_stream(torch.cuda.current_stream(device))
        return tuple(results) if self._several else results[0]

    def _run_from_host(self, values: Sequence[Any]) -> Any:
        arrays = [_array(spec, value) for spec, value in zip(self.inputs, values, strict=True)]
        results = [np.empty(spec.shape, spec.dtype) for spec in self.outputs]
        with self.lock:
            loaded = self.loaded()
            driver, stream = loaded.driver, loaded.stream
            driver.enter()
            for pointer, array in zip(loaded.inputs, arrays, strict=True):
                driver.upload(pointer, array.ctypes.data, array.nbytes, stream)
            loaded.run(tuple(loaded.inputs), tuple(loaded.outputs), stream)
            for pointer, result in zip(loaded.outputs, results, strict=True):
                driver.download(result.ctypes.data, pointer, result.nbytes, stream)
            driver.synchronise(stream)
        answers = results if not values or isinstance(values[0], np.ndarray) else [_torch(r) for r in results]
        return tuple(answers) if self._several else answers[0]

    def invoke(self) -> Any:
        """Runs on the inputs of the last call on arrays and waits: for measuring, with `lock` held."""
        loaded = self.loaded()
        loaded.run(tuple(loaded.inputs), tuple(loaded.outputs), loaded.stream)
        loaded.driver.synchronise(loaded.stream)

    def profile(self, *inputs: Any, repeats: int | None = None) -> Profile:
        """Times every layer by the GPU's own events, on these inputs or on random ones."""
        from lhcc.runtime.cuda_profile import profile

        return profile(self, inputs, repeats)

    def close(self) -> None:
        """Gives the GPU's memory back; the next call takes it again."""
        with self.lock:
            if self._loaded is not None:
                self._loaded.close()
                self._loaded = None


def _array(spec: TensorSpec, value: Any) -> np.ndarray[Any, Any]:
    """What the user passed as a contiguous array that fits."""
    if type(value).__module__.partition(".")[0] == "torch":
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray | np.generic):
        raise InputError(
            f"input '{spec.name}' is a {type(value).__name__}, not a numpy array or PyTorch tensor",
            f"pass numpy.asarray(x, dtype='{spec.dtype}')",
        )
    if value.shape != spec.shape:
        raise _misfit(spec, value, "compile the model for the shape that you want to run")
    if value.dtype != np.dtype(spec.dtype):
        raise _misfit(spec, value, f"pass x.astype('{spec.dtype}')")
    return np.ascontiguousarray(value)


def _fitting(spec: TensorSpec, tensor: Any, device: Any) -> Any:
    if tensor.device != device:
        raise InputError(f"input '{spec.name}' is on {tensor.device}, the others on {device}", "move it there")
    if tuple(tensor.shape) != spec.shape:
        raise _misfit(spec, tensor, "compile the model for the shape that you want to run")
    if str(tensor.dtype).removeprefix("torch.") != spec.dtype:
        raise _misfit(spec, tensor, f"pass x.to(torch.{spec.dtype})")
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


def _misfit(spec: TensorSpec, value: Any, hint: str) -> InputError:
    got = f"{str(value.dtype).removeprefix('torch.')}[{', '.join(map(str, value.shape))}]"
    return InputError(f"input '{spec.name}' is {got}, the model takes {str(spec).partition(': ')[2]}", hint)


def _torch(array: np.ndarray[Any, Any]) -> Any:
    import torch

    return torch.from_numpy(array)
