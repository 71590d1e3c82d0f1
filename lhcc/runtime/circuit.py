"""A circuit as a part of a model: what enters and leaves its ports, and the digest by which the model calls it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lhcc.integer.core import Ints
from lhcc.integer.ported import Ported, with_ports
from lhcc.integer.storage import to_parts
from lhcc.runtime.external import Argument
from lhcc.runtime.files import scratch

_by_program: ContextVar[bool] = ContextVar("by_program", default=False)


@contextmanager
def answered_by_programs() -> Iterator[None]:
    """Circuits that are called meanwhile are not simulated: their integer programs answer."""
    token = _by_program.set(True)
    try:
        yield
    finally:
        _by_program.reset(token)


@dataclass(eq=False)
class Circuit:
    """`executable` simulates `ported.program`, which takes `images` at a time."""

    executable: Any
    ported: Ported
    images: int
    digest: str
    functional: bool = False
    """whether the integer program answers always, and not the simulation"""
    entered: list[tuple[Ints, ...]] = field(default_factory=list)
    """the integers of the last run"""

    @property
    def arguments(self) -> tuple[Sequence[Argument], Sequence[Argument]]:
        inputs, outputs = (
            [(self.ported.shape(port, self.images), port.dtype) for port in ports]
            for ports in (self.ported.inputs, self.ported.outputs)
        )
        return inputs, outputs

    def compute(self, *arrays: NDArray[Any]) -> list[NDArray[Any]]:
        return self.ported.run(self._integers, arrays)

    def _integers(self, *integers: Ints) -> Sequence[Ints]:
        self.entered[:] = [integers]
        if self.functional or _by_program.get():
            return self.ported.program.run(*integers)
        outputs: Sequence[Ints] = self.executable.simulate(*integers).outputs
        return outputs

    def describe(self) -> dict[str, Any]:
        """All but the design, ready for JSON."""
        return {"images": self.images, "digest": self.digest, "ports": self.ported.describe()}

    def design(self) -> bytes:
        """The executable as it would be saved by itself."""
        with scratch() as folder:
            path = folder / "design"
            self.executable.save(path)
            return path.read_bytes()


def digest_of(ported: Ported, images: int, options: Any) -> str:
    text, arrays = to_parts(ported.program)
    content = hashlib.sha256(f"{text} {ported.inputs} {ported.outputs} {images} {options}".encode())
    for array in arrays.values():
        content.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return content.hexdigest()


def restored(described: dict[str, Any], design: bytes, folder: str | os.PathLike[str]) -> Circuit:
    """What `describe` and `design` gave; `folder` is for a file that may go afterwards."""
    from lhcc.runtime.artifact import load

    path = Path(folder, "design")
    path.write_bytes(design)
    executable = load(path)
    ported = with_ports(executable.program, described["ports"])
    return Circuit(executable, ported, described["images"], described["digest"])
