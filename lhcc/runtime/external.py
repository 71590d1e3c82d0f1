"""Functions of a compiled model that no processor computes: its code calls them by the digest of what they stand for.

The code hands over addresses, inputs first; what is bound under the digest knows shapes and element types.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lhcc.runtime.library import ffi

FUNCTION = "lhcc.external"  # under which TVM knows `_call`


Argument = tuple[tuple[int, ...], str]  # shape and element type


class External(Protocol):
    digest: str

    @property
    def arguments(self) -> tuple[Sequence[Argument], Sequence[Argument]]:
        """The inputs, and the outputs."""

    def compute(self, *arrays: NDArray[Any]) -> Sequence[NDArray[Any]]: ...


_bound: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()
_failed = threading.local()


def bind(external: External) -> Any:
    """Makes it known for as long as the result is kept: itself, or the equal one that is there already."""
    _register()
    return _bound.setdefault(external.digest, external)


@cache
def _register() -> None:
    ffi().register_global_func(FUNCTION, _call, override=True)


def _call(digest: str, *addresses: ctypes.c_void_p) -> None:
    try:
        external: External = _bound[digest]
        inputs, outputs = external.arguments
        given = [_array(address, *argument) for address, argument in zip(addresses, inputs, strict=False)]
        wanted = [
            _array(address, *argument) for address, argument in zip(addresses[len(given) :], outputs, strict=True)
        ]
        for target, result in zip(wanted, external.compute(*given), strict=True):
            np.copyto(target, result)
    except Exception as error:  # TVM passes on no more than its text
        _failed.error = error
        raise


def _array(address: ctypes.c_void_p, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory: Any = (ctypes.c_char * size).from_address(address.value or 0)
    array: NDArray[Any] = np.frombuffer(memory, dtype).reshape(shape)
    return array


@contextmanager
def own_errors() -> Iterator[None]:
    """What an external function raised is raised again as it was."""
    _failed.error = None
    try:
        yield
    except Exception:
        if _failed.error is None:
            raise
        error, _failed.error = _failed.error, None
        raise error from None
