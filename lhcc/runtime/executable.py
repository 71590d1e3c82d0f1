"""A compiled model that can be called: checks its inputs, runs the virtual machine, hands out the outputs."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lhcc.errors import InputError, TargetError
from lhcc.ir.log import LayerRecord, Reason
from lhcc.runtime import threads
from lhcc.runtime.library import ffi, global_function
from lhcc.runtime.loader import load_machine
from lhcc.runtime.machine import mismatch
from lhcc.runtime.memory import ALIGNMENT, allocate
from lhcc.runtime.program import Operand, Placement, Program, TensorSpec

if TYPE_CHECKING:
    from lhcc.emulation import Emulation
    from lhcc.runtime.profile import Profile

SMALL = 1 << 16  # up to this many bytes, copying an input costs less than wrapping it


class Executable:
    """Call it with numpy arrays or PyTorch tensors; it answers in kind, with a tuple if there are several outputs."""

    def __init__(self, program: Program, threads: int | None = None) -> None:
        """`threads` replaces the number that the program was compiled for, unless that is one."""
        if threads is not None and threads > 1 == program.threads:
            raise InputError(f"threads={threads} was asked of a model compiled for one", "compile it with threads=N")
        self.program = program
        self.threads = threads or program.threads
        self._pooled = program.threads > 1
        self.lock = threading.Lock()  # one call at a time: the virtual machine and the arena are not shared
        self._slots = [_Slot(spec) for spec in program.inputs]
        self._several = len(program.outputs) != 1
        self.kernels: Any = None  # their module, where there is one
        self._closure, self._invoke = None, self._refuse
        if mismatch(program.machine) is None:
            self._load()

    def _load(self) -> None:
        program = self.program
        self._arena = allocate(program.arena_size)
        machine, self.kernels = load_machine(program)
        bound = [place.view(program.weights) for place in program.constants]
        bound += [place.view(self._arena) for place in program.temporaries]
        self._closure = machine["bind"](*map(ffi().from_dlpack, bound))
        self._invoke = machine["invoke_closure"]

    def _refuse(self, *_: Any) -> Any:
        """What a model that was compiled for another machine answers: here it can only be saved."""
        why = mismatch(self.program.machine)
        raise TargetError(
            f"the model cannot run here: {why}", "save it and load it there, or compile it for this machine"
        )

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self.program.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self.program.outputs

    @property
    def layers(self) -> tuple[LayerRecord, ...]:
        return self.program.layers

    @property
    def reasons(self) -> tuple[Reason, ...]:
        return self.program.reasons

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Runs the model; inputs by position, or by name."""
        slots = self._slots
        if named or len(inputs) != len(slots):
            inputs = self._by_position(inputs, named)
        with self.lock:
            if self._pooled:
                threads.use(self.threads)
            if (
                len(inputs) == 1
            ):  # the usual case, without a list: between two runs even Python's code leaves the caches
                result = self._invoke(self._closure, slots[0].take(inputs[0]))
            else:
                result = self._invoke(self._closure, *[slot.take(x) for slot, x in zip(slots, inputs, strict=True)])
        to_user = np.from_dlpack if not inputs or isinstance(inputs[0], np.ndarray) else _torch_from_dlpack
        return tuple(map(to_user, result)) if self._several else to_user(result)

    def invoke(self) -> Any:
        """Runs on the inputs of the last call, without checking and wrapping: for measuring, with `lock` held."""
        return self._invoke(self._closure, *(slot.tensor for slot in self._slots))

    def calls(self, *inputs: Any) -> list[tuple[Any, tuple[Any, ...]]]:
        """The kernels of a run on these inputs one by one, with their arguments, and results of their own."""
        program = self.program
        taken = [slot.take(x) for slot, x in zip(self._slots, inputs, strict=True)]
        results = [allocate(spec.nbytes) for spec in program.outputs]
        memory = {"weights": program.weights, "arena": self._arena}

        def tensor(operand: Operand) -> Any:
            if operand.kind == "input":
                return ffi().from_dlpack(np.from_dlpack(taken[operand.at]).reshape(operand.shape))
            if operand.kind == "output":
                return ffi().from_dlpack(Placement(0, operand.shape, operand.dtype).view(results[operand.at]))
            return ffi().from_dlpack(Placement(operand.at, operand.shape, operand.dtype).view(memory[operand.kind]))

        def kernel(name: str) -> Any:
            own = self.kernels is not None and self.kernels.implements_function(name)
            return self.kernels[name] if own else global_function(name)

        return [(kernel(call.kernel), tuple(map(tensor, call.operands))) for call in program.calls]

    def profile(self, *inputs: Any, repeats: int | None = None) -> Profile:
        """Times every layer, on these inputs or on random ones."""
        from lhcc.runtime.profile import profile

        return profile(self, inputs, repeats=repeats)

    def emulate(self, *inputs: Any, **named: Any) -> Emulation:
        """Runs the code of another processor under QEMU: its outputs, and the instructions of every layer."""
        from lhcc.emulation import emulate

        if inputs or named:
            inputs = self._by_position(inputs, named)
        else:
            inputs = self.random_inputs()
        taken = [slot.take(x) for slot, x in zip(self._slots, inputs, strict=True)]
        return emulate(self.program, [np.from_dlpack(tensor) for tensor in taken])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one file that `lhcc.load` reads, here or on any machine of the same kind."""
        from lhcc.runtime.artifact import write

        write(path, self.program)

    def random_inputs(self, seed: int = 0) -> tuple[np.ndarray[Any, Any], ...]:
        """Inputs that fit: normally distributed floats, or small integers."""
        rng = np.random.default_rng(seed)

        def draw(spec: TensorSpec) -> np.ndarray[Any, Any]:
            dtype = np.dtype(spec.dtype)
            if dtype.kind == "f":
                return rng.standard_normal(spec.shape).astype(dtype)
            return rng.integers(0, 2, spec.shape).astype(dtype)

        return tuple(draw(spec) for spec in self.inputs)

    def __repr__(self) -> str:
        signature = ", ".join(map(str, self.inputs)), ", ".join(map(str, self.outputs))
        return f"<lhcc.Executable for {self.program.target}: ({signature[0]}) -> ({signature[1]})>"

    def _by_position(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        names = [spec.name for spec in self.inputs]
        expected = f"its inputs are {', '.join(map(str, self.inputs))}" if names else "it takes none"
        unknown = [name for name in named if name not in names]
        if unknown:
            raise InputError(f"the model has no input '{unknown[0]}'", expected)
        given = len(inputs) + len(named)
        if given != len(names):
            raise InputError(f"the model takes {len(names)} input{'s' * (len(names) != 1)}, {given} given", expected)
        twice = [name for name in names[: len(inputs)] if name in named]
        if twice:
            raise InputError(f"input '{twice[0]}' is given twice, by position and by name", expected)
        return (*inputs, *(named[name] for name in names[len(inputs) :]))


class _Slot:
    """One input: checks what the user passes and makes it a tensor that the kernels may read.

    Kernels load whole aligned vectors, and numpy promises 16 bytes of alignment; so an array is copied to memory of the
    slot unless it is large, contiguous and happens to be aligned.
    """

    def __init__(self, spec: TensorSpec) -> None:
        self.spec, self.shape, self.dtype = spec, spec.shape, np.dtype(spec.dtype)
        self.small = spec.nbytes <= SMALL
        self.memory = allocate(spec.nbytes).view(self.dtype).reshape(spec.shape)
        self.tensor = ffi().from_dlpack(self.memory)

    def take(self, value: Any) -> Any:
        if type(value) is not np.ndarray:
            if type(value).__module__.partition(".")[0] == "torch":
                return self._take_torch(value)
            if not isinstance(value, np.ndarray | np.generic):
                raise InputError(
                    f"input '{self.spec.name}' is a {type(value).__name__}, not a numpy array or PyTorch tensor",
                    f"pass numpy.asarray(x, dtype='{self.spec.dtype}')",
                )
            value = np.asarray(value)
        if value.dtype != self.dtype or value.shape != self.shape:
            raise self._misfit(value.dtype, value.shape, "x.astype('{}')")
        if not self.small and value.flags.c_contiguous and value.flags.writeable and value.ctypes.data % ALIGNMENT == 0:
            return ffi().from_dlpack(value)
        np.copyto(self.memory, value)
        return self.tensor

    def _take_torch(self, value: Any) -> Any:
        import torch

        fits = isinstance(value, torch.Tensor) and value.dtype == getattr(torch, self.spec.dtype)
        if not fits or value.shape != self.shape:
            dtype = str(getattr(value, "dtype", type(value).__name__)).removeprefix("torch.")
            raise self._misfit(dtype, tuple(getattr(value, "shape", ())), "x.to(torch.{})")
        if not value.is_cpu:
            raise InputError(f"input '{self.spec.name}' is on {value.device}, the model is for the CPU", "pass x.cpu()")
        if value.requires_grad:
            value = value.detach()
        if value.is_contiguous() and value.data_ptr() % ALIGNMENT == 0:
            return ffi().from_dlpack(value)
        np.copyto(self.memory, value.numpy())
        return self.tensor

    def _misfit(self, dtype: Any, shape: tuple[int, ...], cast: str) -> InputError:
        got = f"{dtype}[{', '.join(map(str, shape))}]"
        message = f"input '{self.spec.name}' is {got}, the model takes {str(self.spec).partition(': ')[2]}"
        if shape == self.shape:
            return InputError(message, f"pass {cast.format(self.spec.dtype)}")
        return InputError(message, "compile the model for the shape that you want to run")


def _torch_from_dlpack(tensor: Any) -> Any:
    import torch

    return torch.from_dlpack(tensor)
