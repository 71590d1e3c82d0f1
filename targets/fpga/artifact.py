"""A design in a file: its integer program and its options; loading places it again, the same way."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import asdict

import numpy as np

from lhcc.errors import ArtifactError
from lhcc.integer import Program
from lhcc.integer.storage import from_parts, to_parts
from lhcc.runtime import container
from lhcc.targets.fpga.executable import FpgaExecutable, compile_program
from lhcc.targets.fpga.options import FpgaOptions

KIND = "fpga"


def write(path: str | os.PathLike[str], program: Program, options: FpgaOptions) -> None:
    text, arrays = to_parts(program)
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    members = {"program": (text.encode(), container.XZ), "arrays": (stream.getvalue(), container.XZ)}
    container.write(path, {"kind": KIND, "options": asdict(options)}, members)


def load(path: str | os.PathLike[str], threads: int | None = None) -> FpgaExecutable:
    """What `FpgaExecutable.save` wrote; a simulation has one thread, whatever is asked for."""
    description, members = container.read(path)
    try:
        options = FpgaOptions(**description["options"])
        with np.load(io.BytesIO(members["arrays"].tobytes()), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        program = from_parts(members["program"].tobytes().decode(), arrays)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path} is no design for the FPGA simulation: {error}", container.REBUILD) from None
    return compile_program(program, options)
