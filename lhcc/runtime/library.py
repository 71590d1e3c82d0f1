"""Loads the TVM runtime: its 3 MB library through `tvm_ffi`, without the compiler and without importing PyTorch."""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lhcc.errors import ToolMissing

INSTALL = "pip install apache-tvm apache-tvm-ffi"


@contextmanager
def without_torch() -> Iterator[None]:
    """`tvm_ffi` imports PyTorch when it is installed: over a second, and running a model does not need it.

    Inside this context `import torch` fails, unless it was imported before, when it costs nothing.  Tensors of a
    PyTorch that is imported later are still accepted: they carry their own DLPack interface.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]  # the documented way to make an import fail
    try:
        yield
    finally:
        del sys.modules["torch"]


@functools.cache
def ffi() -> Any:
    """The `tvm_ffi` module, with the TVM runtime library loaded."""
    os.environ.setdefault("TVM_BIND_THREADS", "0")  # see threads.py
    try:
        with without_torch():
            import tvm_ffi
            from tvm_ffi.libinfo import load_lib_ctypes
    except ImportError as error:
        raise ToolMissing(f"the TVM runtime is not installed: {error}", INSTALL) from None
    if "tvm" not in sys.modules:
        load_lib_ctypes("tvm", "tvm_runtime", "RTLD_GLOBAL", extra_lib_paths=_library_folders())
    return tvm_ffi


def import_tvm() -> Any:
    """The whole of TVM with its compiler, imported without PyTorch."""
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    with without_torch():
        import tvm
    return tvm


def global_function(name: str) -> Any:
    """A function that the TVM runtime registered under `name`."""
    return ffi().get_global_func(name)


def tvm_version() -> str:
    """The version of the installed TVM, without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        return "unknown"


def _library_folders() -> list[Path]:
    """TVM's library folder, found without running TVM's own `__init__`, which would import all of TVM."""
    spec = importlib.util.find_spec("tvm")
    if spec is None or not spec.submodule_search_locations:
        raise ToolMissing("the TVM runtime is not installed", INSTALL)
    return [Path(folder) / "lib" for folder in spec.submodule_search_locations]
