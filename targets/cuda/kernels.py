"""The kernel that a packed layer asks for."""

from __future__ import annotations

from typing import Any

from lhcc.targets.cuda.conv import conv_kernel
from lhcc.targets.cuda.spec import ConvSpec, WindowSpec
from lhcc.targets.cuda.window import window_kernel


def packed_kernel(spec: str) -> Any:
    if '"lanes"' in spec:
        return conv_kernel(ConvSpec.from_json(spec))
    return window_kernel(WindowSpec.from_json(spec))
