"""Several executables as one: each reads tensors that the user or an earlier one made, by name.

So a network runs of which a target holds only a part: `profile`, `save` and `export` go to the parts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lhcc.errors import ArtifactError, InputError
from lhcc.ir.log import Reason
from lhcc.runtime import container
from lhcc.runtime.files import scratch

KIND = "chain"


@dataclass(frozen=True)
class Part:
    name: str
    executable: Any
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    batch: int | None = None
    """images at a time, where it takes no other number"""

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = [np.asarray(values[name]) for name in self.reads]
        size = self.batch if self.batch and arrays and len(arrays[0]) % self.batch == 0 else len(arrays[0])
        parts = [self._call([a[k : k + size] for a in arrays]) for k in range(0, len(arrays[0]), size)]
        return {
            name: np.concatenate(pieces) for name, pieces in zip(self.writes, zip(*parts, strict=True), strict=True)
        }

    def _call(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        result = self.executable(*map(np.ascontiguousarray, arrays))
        return [np.array(r) for r in (result if isinstance(result, tuple) else (result,))]


@dataclass(frozen=True)
class ChainProfile:
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


@dataclass(frozen=True)
class Chain:
    """What `lhcc.compile` gives for a network of which the target holds only a part."""

    parts: tuple[Part, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()

    def __call__(self, *inputs: Any) -> Any:
        values = self.run(*inputs)
        results = tuple(values[name] for name in self.outputs)
        return results if len(results) > 1 else results[0]

    def run(self, *inputs: Any) -> dict[str, np.ndarray]:
        """Every tensor that goes from part to part."""
        values = self._named(inputs)
        for part in self.parts:
            values |= part.run(values)
        return values

    def profile(self, *inputs: Any, **options: Any) -> ChainProfile:
        """The profile of every part on what it gets for these inputs; without any, on inputs of its own.

        `options` are the circuit's."""
        values, found = self._named(inputs) if inputs else {}, {}
        for part in self.parts:
            arrays = [values[name] for name in part.reads] if values else []
            if part.batch:
                arrays = [a[: part.batch] for a in arrays]
            chosen = options if part.executable is self.circuit else {}
            found[part.name] = part.executable.profile(*arrays, **chosen)
            values |= part.run(values) if values else {}
        return ChainProfile(found)

    @property
    def layers(self) -> tuple[Any, ...]:
        return tuple(layer for part in self.parts for layer in part.executable.layers)

    @property
    def circuit(self) -> Any:
        """the part that is a circuit"""
        return next(part.executable for part in self.parts if hasattr(part.executable, "export"))

    def export(self, folder: str | Path) -> Path:
        """The circuit's own files; what runs on the processor has none."""
        exported: Path = self.circuit.export(folder)
        return exported

    def save(self, path: str | os.PathLike[str]) -> None:
        entries = [
            {"name": p.name, "reads": list(p.reads), "writes": list(p.writes), "batch": p.batch} for p in self.parts
        ]
        description = {
            "kind": KIND, "parts": entries, "inputs": list(self.inputs), "outputs": list(self.outputs),
            "reasons": [vars(reason) for reason in self.reasons],
        }  # fmt: skip
        members = {}
        with scratch() as folder:
            for number, part in enumerate(self.parts):
                part.executable.save(folder / "part")
                members[str(number)] = ((folder / "part").read_bytes(), container.RAW)
        container.write(path, description, members)

    def _named(self, inputs: tuple[Any, ...]) -> dict[str, np.ndarray]:
        if len(inputs) != len(self.inputs):
            raise InputError(f"the model takes {len(self.inputs)} inputs, {len(inputs)} given")
        return {name: np.asarray(x) for name, x in zip(self.inputs, inputs, strict=True)}


def load(path: str | os.PathLike[str], threads: int | None = None) -> Chain:
    """What `Chain.save` wrote."""
    description, members = container.read(path)
    try:
        parts = tuple(_parts(description["parts"], members, threads))
        reasons = tuple(Reason(**reason) for reason in description["reasons"])
        return Chain(parts, tuple(description["inputs"]), tuple(description["outputs"]), reasons)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged: its description lacks {error}", container.REBUILD) from None


def _parts(entries: list[dict[str, Any]], members: Mapping[str, Any], threads: int | None) -> Iterator[Part]:
    from lhcc.runtime.artifact import load as load_artifact

    for number, entry in enumerate(entries):
        with scratch() as folder:
            (folder / "part").write_bytes(members[str(number)].tobytes())
            executable = load_artifact(folder / "part", threads)
        yield Part(entry["name"], executable, tuple(entry["reads"]), tuple(entry["writes"]), entry["batch"])
