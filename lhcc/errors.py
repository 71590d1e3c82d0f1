"""Every mistake a user can make ends in one of these: one sentence, and the way out."""

from __future__ import annotations

from collections.abc import Collection

MOST_NAMES = 20  # that a hint lists


class LhccError(Exception):
    """A mistake in the input, not in lhcc.  `hint` is the next command or change to try."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class LhccWarning(UserWarning):
    """Something that a user should know, and that stops nothing."""


class ModelError(LhccError):
    """The model cannot be read, or holds something that no frontend understands."""


class UnsupportedOperator(ModelError):
    """Operators without a lowering; the message lists every one of them with its nodes."""


class InputError(LhccError):
    """Inputs do not fit the model: count, shape or dtype."""


class TargetError(LhccError):
    """Unknown target, unknown target argument, or a target that cannot place a layer."""


class Unplaceable(TargetError):
    """What a target cannot place, and another one may run: the layer that stands in the way, or "" for all of it."""

    def __init__(self, layer: str, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.layer = layer


class ArtifactError(LhccError):
    """An artifact is truncated, tampered with, too new, or made for another machine."""


class ToolMissing(LhccError):
    """A tool or optional package is needed and is not installed."""


def first_line(error: BaseException) -> str:
    """What an error of another library says, without its traceback and advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def near(name: str, names: Collection[str]) -> str:
    """The hint for a name that is unknown."""
    from difflib import get_close_matches

    close = get_close_matches(name, names, 3, cutoff=0.5)
    if close:
        return f"did you mean {', '.join(map(repr, close))}?"
    first, more = sorted(names)[:MOST_NAMES], len(names) - MOST_NAMES
    listed = ", ".join(first) + (f" and {more} more" if more > 0 else "")
    return f"{'there is only' if len(names) == 1 else 'known are'} {listed}"
