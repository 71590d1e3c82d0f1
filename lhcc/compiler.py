"""From a model to an executable: frontend, passes, code generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lhcc.errors import TargetError
from lhcc.frontend import import_model
from lhcc.pipeline import lower
from lhcc.runtime.build import build
from lhcc.runtime.executable import Executable
from lhcc.targets import base


def compile_model(
    model: Any, target: str, inputs: Any, input_shapes: Mapping[str, Any] | None, options: Mapping[str, Any]
) -> Executable:
    chosen = make_options(options)
    parsed = base.parse(target)  # a wrong target is told before the model is read
    mod = import_model(model, inputs, input_shapes)
    names = (mod["main"].attrs or {}).get("output_names", ())
    return build(lower(mod, parsed, chosen), parsed, threads=chosen.threads, output_names=[str(n) for n in names])


def make_options(options: Mapping[str, Any]) -> base.Options:
    known = [field.name for field in fields(base.Options)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TargetError(f"'{unknown[0]}' is not an option of lhcc.compile", f"the options are {', '.join(known)}")
    return base.Options(**options)
