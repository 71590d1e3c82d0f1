"""Turns the binary parts of a program into a running virtual machine, without writing files where the system allows."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lhcc.runtime.library import global_function
from lhcc.runtime.program import Program

CPU, POOLED = 1, 2  # TVM's numbers of the device type and of the allocator

_serial = itertools.count()


def load_machine(program: Program) -> tuple[Any, Any]:
    """The virtual machine's module, with the program's `main` and `bind`, and that of its kernels, if it has any."""
    kernels = load_kernels(program.code) if program.code else None
    executable = global_function("ffi.Module.load_from_bytes.relax.VMExecutable")(program.bytecode)
    if kernels is not None:
        executable.import_module(kernels)
    machine = executable["vm_load_executable"]()
    machine["vm_initialization"](CPU, 0, POOLED)
    return machine, kernels


def load_kernels(code: bytes) -> Any:
    """The module of kernels in a shared library."""
    with _as_file(code) as path:
        return global_function("ffi.Module.load_from_file.so")(path, "so")


@contextmanager
def _as_file(code: bytes) -> Iterator[str]:
    """A path under which the dynamic linker finds `code`: memory where Linux offers it, else a temporary file.

    The dynamic linker takes a path that it has seen to be the library that it has open, and numbers of descriptors are
    used again; so each path is spelled in a way of its own.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("lhcc-kernels", os.MFD_CLOEXEC)
        try:
            with os.fdopen(descriptor, "wb", closefd=False) as file:
                file.write(code)
            spelling = "".join("/" if bit == "0" else "/." for bit in f"{next(_serial):b}")
            yield f"/proc/self/fd{spelling}/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile(prefix="lhcc-", suffix=".so") as file:
        file.write(code)
        file.flush()
        yield file.name
