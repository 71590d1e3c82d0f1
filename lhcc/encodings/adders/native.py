"""Builds search.c with the system's compiler at first use, keeps the library in the user's cache, and calls it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from lhcc.encodings.adders.network import SumNetwork
from lhcc.encodings.adders.search import Options
from lhcc.runtime.files import cache_folder

_SOURCE = Path(__file__).with_name("search.c")
_FLAGS = ("-O2", "-std=gnu11", "-shared", "-fPIC")


def _build(source: Path, folder: Path) -> Path | None:
    """The compiled library, or None without a source, a compiler, or a place to write."""
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if not source.exists():
        return None
    text = source.read_bytes()
    digest = hashlib.sha256(text + " ".join((*_FLAGS, platform.machine(), platform.system())).encode()).hexdigest()
    library = folder / f"adders-{digest[:16]}.so"
    if library.exists():
        return library
    if compiler is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / "search.so"
            subprocess.run([compiler, *_FLAGS, "-o", fresh, source], check=True, capture_output=True, timeout=120)
            os.replace(fresh, library)
    except (OSError, subprocess.SubprocessError):
        return None
    return library


@functools.cache
def library() -> ctypes.CDLL | None:
    """The search in machine code, or None: then the Python reference runs, slower and with the same results."""
    path = _build(_SOURCE, cache_folder())
    if path is None:
        return None
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError:
        return None
    i32, i64, pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p
    loaded.lhcc_adders_search.restype = i64
    loaded.lhcc_adders_search.argtypes = [
        *(i32, i32, i32, pointer, i32, i64, ctypes.c_double, ctypes.c_uint64),
        *(i32, i32, i32, pointer, i32, pointer, i64, pointer),
    ]
    return loaded


def search(network: SumNetwork, options: Options) -> SumNetwork | None:
    """The same answer as `Search(network, options).run()`, or None if it cannot be had in machine code."""
    loaded = library()
    if loaded is None:
        return None
    flat = network.packed()
    accept = np.array(options.accept, dtype=np.int32)
    best = np.zeros(4 * len(flat) + 1024, dtype=np.int32)
    report = np.zeros(3, dtype=np.int64)
    length = loaded.lhcc_adders_search(
        *(network.inputs, network.outputs, len(network.sums), flat.ctypes.data, options.cap, options.rounds),
        *(options.seconds, options.seed & (2**64 - 1), options.ruin_size, options.respelling, options.noise),
        *(accept.ctypes.data, len(accept), best.ctypes.data, len(best), report.ctypes.data),
    )
    if length < 0 or report[2]:
        return None
    return SumNetwork.unpacked(network.inputs, network.outputs, best[:length])
