"""A program as one .npz: its text as JSON, its arrays beside it; nothing in it can execute."""

from __future__ import annotations

import dataclasses
import json
import typing
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lhcc.errors import ArtifactError
from lhcc.integer.affine import Add, Conv, Dense, SumPool
from lhcc.integer.core import Instruction
from lhcc.integer.pointwise import Clip, Input, Piecewise, Requantise
from lhcc.integer.program import Program
from lhcc.integer.shape import Concat, Flatten, MaxPool

FORMAT = 1
_KINDS = (Add, Clip, Concat, Conv, Dense, Flatten, Input, MaxPool, Piecewise, Requantise, SumPool)
KINDS: dict[str, type[Instruction]] = {kind.__name__: kind for kind in _KINDS}


def to_parts(program: Program) -> tuple[str, dict[str, np.ndarray]]:
    """The program's JSON text and its arrays; an array field stands in the text as {"array": key}."""
    arrays: dict[str, np.ndarray] = {}

    def keep(array: np.ndarray) -> str:
        key = f"a{len(arrays)}"
        arrays[key] = array
        return key

    steps = [to_fields(step, keep) for step in program.instructions]
    text = {"format": FORMAT, "layout": program.layout, "outputs": program.outputs, "instructions": steps}
    return json.dumps(text, indent=1), arrays


def from_parts(text: str, arrays: typing.Mapping[str, np.ndarray]) -> Program:
    """The inverse of to_parts; raises ArtifactError on anything that to_parts does not write."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ArtifactError(f"integer program of format {data['format']}, and this lhcc reads format {FORMAT}")
        steps = [from_fields(fields, arrays) for fields in data["instructions"]]
        return Program(steps, data["outputs"], data["layout"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"not an integer program: {error!r}") from error


def to_fields(step: Instruction, keep: Callable[[np.ndarray], str]) -> dict[str, Any]:
    """One instruction as plain values; `keep` takes an array and says under which key it will be found."""
    fields: dict[str, Any] = {"op": type(step).__name__}
    for field in dataclasses.fields(step):
        value = getattr(step, field.name)
        if isinstance(value, np.ndarray | np.generic):
            value = {"array": keep(np.asarray(value))}
        fields[field.name] = value
    return fields


def from_fields(fields: typing.Mapping[str, Any], arrays: typing.Mapping[str, np.ndarray]) -> Instruction:
    """The inverse of to_fields."""
    kind = KINDS[fields["op"]]
    values = {}
    for field in dataclasses.fields(kind):
        value = fields[field.name]
        if isinstance(value, dict):
            value = arrays[value["array"]]
        elif isinstance(value, list):
            value = tuple(value)
        values[field.name] = value
    return kind(**values)


def save(program: Program, path: Path) -> None:
    text, arrays = to_parts(program)
    with open(path, "wb") as stream:
        np.savez_compressed(stream, program=np.frombuffer(text.encode(), dtype=np.uint8), **typing.cast(Any, arrays))


def load(path: Path) -> Program:
    try:
        with np.load(path, allow_pickle=False) as stored:
            parts = {key: stored[key] for key in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"'{path}' is not an integer program: {error}") from error
    if "program" not in parts:
        raise ArtifactError(f"'{path}' is not an integer program: it has no program text")
    return from_parts(parts.pop("program").tobytes().decode(), parts)
