"""A model of which circuits hold parts: one program of the virtual machine, whose code calls them.

`profile`, `save` and `export` go to the circuits as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from lhcc.errors import ArtifactError, InputError
from lhcc.ir.log import Reason
from lhcc.runtime import container
from lhcc.runtime.circuit import Circuit, answered_by_programs, restored
from lhcc.runtime.executable import Executable
from lhcc.runtime.external import bind, own_errors
from lhcc.runtime.files import scratch
from lhcc.runtime.program import Program

KIND = "mixed"
PROCESSOR = "processor"


@dataclass(frozen=True)
class MixedProfile:
    parts: dict[str, Any]

    @property
    def layers(self) -> tuple[Any, ...]:
        return tuple(layer for part in self.parts.values() for layer in part.layers)

    def json(self) -> str:
        return json.dumps({name: _data(part.json()) for name, part in self.parts.items()}, indent=1)

    def html(self, pictures: Mapping[str, str] | None = None) -> str:
        """The parts' pages, one after the other."""
        pages = [f"<!-- {name} -->\n{part.html(pictures)}" for name, part in self.parts.items()]
        return "\n".join(pages)

    def csv(self) -> str:
        return "\n".join(f"{name}\n{part.csv()}" for name, part in self.parts.items())

    def __str__(self) -> str:
        return "\n\n".join(f"{name}\n{part}" for name, part in self.parts.items())


def _data(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


class Mixed:
    """What `lhcc.compile` gives for a network of which the target holds only a part."""

    def __init__(self, program: Program, circuits: Sequence[Circuit], threads: int | None = None) -> None:
        self.program = program
        self.circuits: tuple[Circuit, ...] = tuple(map(bind, circuits))
        self.processor = Executable(program, threads)

    def __call__(self, *inputs: Any) -> Any:
        """Runs the model; a multiple of the images that it was compiled for is taken in turn."""
        specs = self.program.inputs
        if len(inputs) != len(specs):
            raise InputError(f"the model takes {len(specs)} inputs, {len(inputs)} given")
        arrays = [np.asarray(x) for x in inputs]
        count, size = len(arrays[0]) if arrays[0].ndim else 0, specs[0].shape[0] if specs[0].shape else 0
        if not count or count % size or any(x.ndim == 0 or len(x) != count for x in arrays):
            return self._run(arrays)  # which says what does not fit
        found = [self._run([x[k : k + size] for x in arrays]) for k in range(0, count, size)]
        if len(found) == 1:
            return found[0]
        if len(self.program.outputs) == 1:
            return np.concatenate(found)
        return tuple(map(np.concatenate, zip(*found, strict=True)))

    def _run(self, arrays: Sequence[np.ndarray]) -> Any:
        with own_errors():
            return self.processor(*arrays)

    def functional(self, *inputs: Any) -> Any:
        """The same answer from the integer programs, without simulating the circuits: for whole data sets."""
        with answered_by_programs():
            return self(*inputs)

    @property
    def reasons(self) -> tuple[Reason, ...]:
        return self.program.reasons

    @property
    def layers(self) -> tuple[Any, ...]:
        """What the processor computes, the calls of circuits among it, and the circuits' own."""
        inside = (layer for circuit in self.circuits for layer in circuit.executable.layers)
        return (*self.program.layers, *inside)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the circuits."""
        if len(self.circuits) == 1:
            return ("circuit",)
        return tuple(f"circuit{number}" for number in range(len(self.circuits)))

    def profile(self, *inputs: Any, **options: Any) -> MixedProfile:
        """The cycles of every circuit, simulated for these inputs if there are any, and the processor's kernels.

        `options` are the circuits'."""
        given = inputs or self.processor.random_inputs()
        found: dict[str, Any] = {}
        with answered_by_programs():
            self(*given)
            entered = [circuit.entered[0] for circuit in self.circuits]
            times = self._processor_times(given)
        if times is not None:
            found[PROCESSOR] = times
        for name, circuit, integers in zip(self.names, self.circuits, entered, strict=True):
            found[name] = circuit.executable.profile_integers(*(integers if inputs else ()), **options)
        return MixedProfile(found)

    def _processor_times(self, inputs: Sequence[Any]) -> Any:
        """Of its kernels alone: how long a simulation takes says nothing about a circuit."""
        from lhcc.runtime import profile
        from lhcc.runtime.sampling import in_turn

        own = [layer.op != "circuit" for layer in self.program.layers]
        if not any(own):
            return None
        size = self.program.inputs[0].shape[0]
        few = [np.asarray(x)[:size] for x in inputs]
        self.processor(*few)
        calls = list(compress(self.processor.calls(*few), own))
        (sampler,) = in_turn([lambda: profile.replay(calls)])
        samples = sampler.best()
        wholes = [(sum(sample),) for sample in samples]
        layers = list(compress(self.program.layers, own))
        return profile.summarise(self.processor, wholes, wholes, samples, sampler.disturbed, layers=layers)

    def export(self, folder: str | Path) -> Path:
        """The circuits' own files, each in a folder of its own if there are several."""
        if len(self.circuits) == 1:
            exported: Path = self.circuits[0].executable.export(folder)
            return exported
        for name, circuit in zip(self.names, self.circuits, strict=True):
            circuit.executable.export(Path(folder, name))
        return Path(folder)

    def save(self, path: str | os.PathLike[str]) -> None:
        from lhcc.runtime import artifact

        members = {}
        with scratch() as folder:
            artifact.write(folder / PROCESSOR, self.program)
            members[PROCESSOR] = ((folder / PROCESSOR).read_bytes(), container.RAW)
        for name, circuit in zip(self.names, self.circuits, strict=True):
            members[name] = (circuit.design(), container.RAW)
        described = {name: circuit.describe() for name, circuit in zip(self.names, self.circuits, strict=True)}
        container.write(path, {"kind": KIND, "circuits": described}, members)


def load(path: str | os.PathLike[str], threads: int | None = None) -> Mixed:
    """What `Mixed.save` wrote."""
    from lhcc.runtime import artifact

    description, members = container.read(path)
    try:
        with scratch() as folder:
            (folder / PROCESSOR).write_bytes(members[PROCESSOR].tobytes())
            program, _ = artifact.read(folder / PROCESSOR)
            circuits = [
                restored(described, members[name].tobytes(), folder)
                for name, described in description["circuits"].items()
            ]
        return Mixed(program, circuits, threads)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged: its description lacks {error}", container.REBUILD) from None
