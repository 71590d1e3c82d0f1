"""The sets of dyadic numbers that weights may be taken from, by name, by digits and bits, or as a list."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lhcc.encodings.dyadic import digit_count
from lhcc.errors import LhccError

_FRACTION_BITS = 16
_NAMED = {
    "ternary": (0.0, 1.0),
    "two": (0.0, 1.0, 2.0),
    "half": (0.0, 0.5, 1.0, 2.0),
}


class SetError(LhccError):
    """A set of weights that is empty, or holds a number that is not dyadic."""


@dataclass(frozen=True)
class DyadicSet:
    """Allowed values of T in W = alpha * T, sorted."""

    name: str
    levels: tuple[float, ...]

    @property
    def unit(self) -> float:
        """The largest power of two of which all levels are multiples."""
        unit = 1.0
        while any(level % unit for level in self.levels):
            unit /= 2
        return unit

    @property
    def digits(self) -> int:
        """Powers of two that the most expensive level needs."""
        return int(digit_count(np.array([round(level / self.unit) for level in self.levels])).max())

    @property
    def symmetric(self) -> bool:
        return self.levels == tuple(sorted(-level + 0.0 for level in self.levels))


def signed_digit_set(digits: int, bits: int) -> DyadicSet:
    """All integers below 2^bits in size that are sums or differences of at most `digits` powers of two."""
    if digits < 1 or bits < 1 or bits > 12:
        raise SetError(f"a signed-digit set needs digits >= 1 and 1 <= bits <= 12, not {digits} and {bits}")
    sizes = np.arange(1 << bits)
    kept = sizes[digit_count(sizes) <= digits]
    return DyadicSet(f"digits:{digits}:{bits}", tuple(float(v) for v in sorted({*kept.tolist(), *(-kept).tolist()})))


def named_set(which: str | Iterable[float] | DyadicSet) -> DyadicSet:
    """A set from its name (ternary, two, half, digits:T:B), from "0,1,-1", or from any numbers."""
    if isinstance(which, DyadicSet):
        return which
    if not isinstance(which, str):
        return _listed(list(which))
    if which in _NAMED:
        sizes = _NAMED[which]
        return DyadicSet(which, tuple(sorted({*sizes, *(-s for s in sizes if s)})))
    words = which.split(":")
    try:
        if words[0] == "digits":
            return signed_digit_set(*(int(word) for word in words[1:]))
        return _listed([float(word) for word in which.split(",") if word.strip()])
    except (TypeError, ValueError):
        raise SetError(
            f"no set of weights is called '{which}'",
            "use ternary, two, half, digits:T:B (at most T signed digits, B bits), or a list such as 0,1,-1,2,-2",
        ) from None


def _listed(values: list[float]) -> DyadicSet:
    if not any(values):
        raise SetError(f"the set of weights {values} holds no number but 0", "give at least one non-zero value")
    for value in values:
        scaled = value * 2.0**_FRACTION_BITS
        if not np.isfinite(value) or scaled != round(scaled):
            raise SetError(f"{value} is not dyadic: it is no integer over 2^k with k <= {_FRACTION_BITS}")
    levels = tuple(sorted({float(value) + 0.0 for value in values}))
    return DyadicSet(",".join(f"{level:g}" for level in levels), levels)
