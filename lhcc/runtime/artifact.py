"""`model.lhcc`: a program in a container.  Everything is verified before any of its code is loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lhcc.errors import ArtifactError, LhccError
from lhcc.ir.log import Reason
from lhcc.runtime import container
from lhcc.runtime.executable import Executable
from lhcc.runtime.library import tvm_version
from lhcc.runtime.machine import mismatch
from lhcc.runtime.program import Machine, Program

OTHERS = {"fpga": "lhcc.targets.fpga.artifact", "mixed": "lhcc.runtime.mixed"}
"""kind -> module with `load(path, threads)`, for artifacts that are no program of TVM's virtual machine"""


def write(path: str | os.PathLike[str], program: Program) -> None:
    description = {"kind": "tvm", "tvm": tvm_version(), **program.describe()}
    members: dict[str, tuple[Any, str]] = {
        "bytecode": (program.bytecode, container.XZ),
        "code": (program.code, container.XZ),
        "weights": (program.weights, container.RAW),
    }
    container.write(path, description, members)


def load(path: str | os.PathLike[str], threads: int | None = None) -> Any:
    """The executable in an artifact; needs the TVM runtime and numpy only.  `threads` overrides its own number."""
    kind = container.describe(path).get("kind")
    if kind in OTHERS:
        return import_module(OTHERS[kind]).load(path, threads)
    program, made_with = read(path)
    if program.target == "cuda":
        from lhcc.runtime.cuda import CudaExecutable

        return CudaExecutable(program)
    try:
        return Executable(program, threads)
    except LhccError:
        raise
    except Exception as error:
        if made_with == tvm_version():
            raise
        raise ArtifactError(
            f"{path} was made with TVM {made_with} and cannot be loaded by TVM {tvm_version()}: {error}",
            f"pip install apache-tvm=={made_with}, or compile the model again",
        ) from None


def reasons(path: str | os.PathLike[str]) -> tuple[Reason, ...]:
    """Why the layers of an artifact were not optimised further, also of one for another machine."""
    if container.describe(path).get("kind") in OTHERS:
        return tuple(load(path).reasons)
    return read(path, for_any_machine=True)[0].reasons


def read(path: str | os.PathLike[str], for_any_machine: bool = False) -> tuple[Program, str]:
    """The program in an artifact, and the version of TVM that it was made with; loads no code."""

    def accept(description: Mapping[str, Any]) -> None:
        machine = Machine.from_description(description["machine"])
        if machine.arch.startswith("sm_"):
            return  # the code in it is for a GPU, which says at the first call what it thinks of it
        why = None if for_any_machine else mismatch(machine)
        if why:
            raise ArtifactError(f"{path} cannot run here: {why}", "compile the model again on this machine, or for it")

    try:
        description, members = container.read(path, accept)
        parts = members["bytecode"].tobytes(), members["code"].tobytes(), members["weights"]
        return Program.from_description(description, *parts), str(description["tvm"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged: its description lacks {error}", container.REBUILD) from None
