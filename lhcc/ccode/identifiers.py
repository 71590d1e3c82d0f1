"""Names that C allows."""

from __future__ import annotations

import re

RESERVED = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm main
    workspace context arena INLINE INFINITY NAN""".split()
)


def identifier(name: str) -> str:
    """`name` with what C allows only."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "v"
    return f"_{plain}" if plain[0].isdigit() else plain


def free_identifier(wish: str, taken: set[str]) -> str:
    """An identifier like `wish` that is neither a word of C nor in `taken`, to which it is added."""
    base = identifier(wish)
    name, number = base, 0
    while name in taken or name in RESERVED:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name
