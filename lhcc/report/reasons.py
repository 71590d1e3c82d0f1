"""Why layers were not optimised further, as `lhcc why` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lhcc.errors import InputError, TargetError
from lhcc.ir.log import Reason


def of_model(model: Any, target: str, shapes: Mapping[str, Any], options: Mapping[str, Any]) -> Sequence[Reason]:
    """What the passes, or the choices about integers, say, without generating code."""
    from lhcc.runtime.library import import_tvm

    import_tvm()
    from lhcc.compiler import make_options, read_model
    from lhcc.targets.base import parse

    chosen, parsed = make_options(options), parse(target)
    if parsed.integers_only:
        from lhcc.offload import NothingPlaced, offloaded

        try:
            return offloaded(model, None, shapes, parsed, chosen)[-1]
        except NothingPlaced as error:
            return error.reasons
        except TargetError as error:  # of the design as a whole
            return [Reason("", parsed.name, error.message)]
    return read_model(model, parsed, chosen, None, shapes).lower().reasons


def select(reasons: Sequence[Reason], layer: str | None) -> list[Reason]:
    """Those of layers whose name contains `layer`."""
    chosen = [reason for reason in reasons if layer is None or layer in reason.layer]
    if layer is not None and not chosen:
        names = list(dict.fromkeys(reason.layer for reason in reasons))
        raise InputError(
            f"no layer '{layer}' was held back by a pass", f"layers that were: {', '.join(names) or 'none'}"
        )
    return chosen


def to_text(reasons: Sequence[Reason]) -> str:
    if not reasons:
        return "every pass did all that it can do"
    lines: list[str] = []
    for layer in dict.fromkeys(reason.layer for reason in reasons):
        lines.append(layer or "the model")
        lines += [f"  {reason.pass_name}: {reason.text}" for reason in reasons if reason.layer == layer]
    return "\n".join(lines)
