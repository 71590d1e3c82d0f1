"""Inputs and outputs as .npy and .npz files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.errors import InputError
from lhcc.report.text import grid
from lhcc.runtime.files import OutputError, atomic_write
from lhcc.runtime.program import TensorSpec

Array = NDArray[Any]


def load(paths: Sequence[str], specs: Sequence[TensorSpec]) -> list[Array]:
    """The model's inputs, from one .npz by name or from .npy files in order."""
    if len(paths) == 1 and Path(paths[0]).suffix == ".npz":
        found = _load(paths[0])
        if len(specs) == len(found) == 1:
            return list(found.values())
        missing = [spec.name for spec in specs if spec.name not in found]
        if missing:
            raise InputError(f"{paths[0]} has no array '{missing[0]}'", f"it has {', '.join(found)}")
        return [found[spec.name] for spec in specs]
    if len(paths) != len(specs):
        expected = ", ".join(map(str, specs))
        raise InputError(f"{len(paths)} input files for {len(specs)} inputs", f"the inputs are {expected}")
    return [_load(path)[""] for path in paths]


def load_in_order(paths: Sequence[str]) -> list[Array]:
    """Every array of the files, one after another."""
    if not paths:
        raise InputError("a simulation needs --input FILE.npy or FILE.npz")
    return [array for path in paths for array in _load(path).values()]


def numbered(outputs: Any) -> dict[str, Array]:
    """The outputs of a run under made-up names."""
    values = outputs if isinstance(outputs, tuple | list) else (outputs,)
    return {f"output{i}" if i else "output": np.asarray(value) for i, value in enumerate(values)}


def named(specs: Sequence[TensorSpec], outputs: Any) -> dict[str, Array]:
    """The outputs of a run by their names."""
    values = outputs if isinstance(outputs, tuple) else (outputs,)
    return {spec.name: value for spec, value in zip(specs, values, strict=True)}


def save(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Writes .npz, or .npy when that is the name of the file and there is one array."""
    suffix = Path(path).suffix
    if suffix not in (".npy", ".npz"):
        raise OutputError(f"cannot write {path}: the name of an output ends in .npy or .npz")
    if suffix == ".npy" and len(arrays) != 1:
        raise OutputError(f"cannot write {len(arrays)} outputs to {path}", "use a name that ends in .npz")
    with atomic_write(path) as file:
        if suffix == ".npy":
            np.save(file, next(iter(arrays.values())))
        else:
            np.savez(file, **arrays)  # type: ignore[arg-type]


def statistics(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """What the outputs are like, ready for JSON."""

    def of(array: Array) -> dict[str, Any]:
        facts: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
        if array.size:
            wide = array.astype("float64")
            facts.update(min=float(wide.min()), max=float(wide.max()), mean=float(wide.mean()))
        return facts

    return {"outputs": {name: of(array) for name, array in arrays.items()}}


def summary(arrays: Mapping[str, Array]) -> str:
    rows = []
    for name, facts in statistics(arrays)["outputs"].items():
        numbers = [f"{facts[key]:.6g}" if key in facts else "-" for key in ("min", "mean", "max")]
        rows.append([name, f"{facts['dtype']}[{', '.join(map(str, facts['shape']))}]", *numbers])
    return grid(["output", "type", "min", "mean", "max"], rows, left=2)


def _load(path: str) -> dict[str, Array]:
    try:
        found = np.load(path, allow_pickle=False)
        return {"": found} if isinstance(found, np.ndarray) else dict(found)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path} is not an array file of numpy: {error}", "numpy.save and numpy.savez write such files"
        ) from None
