"""What a user may ask of a circuit."""

from __future__ import annotations

from dataclasses import dataclass

from lhcc.errors import TargetError
from lhcc.targets.fpga.cost import DEVICES
from lhcc.targets.fpga.forms import FORMS


@dataclass(frozen=True)
class FpgaOptions:
    """`reuse`: 1 unrolls every layer, N lets the circuit take N cycles for a pixel of the input, "folded" is one block
    array for all layers, "auto" is the fastest design that fits; `clock` in MHz."""

    reuse: int | str = "auto"
    clock: float = 100.0
    device: str = "xc7a100t"
    max_luts: int | None = None
    max_bram: int | None = None
    target_fps: float | None = None
    """images per second: the smallest design that reaches them is taken"""
    adder_seconds: float = 0.0
    """search time for shared additions per layer; 0 shares greedily, negative shares nothing"""
    form: str = "auto"
    """of unrolled convolutions: direct, transposed, hybrid-rows, hybrid-columns, or whichever costs least"""

    def __post_init__(self) -> None:
        if not (self.reuse in ("folded", "auto") or (isinstance(self.reuse, int) and self.reuse >= 1)):
            raise TargetError(f"reuse={self.reuse} is not known", "choose 1, 2 and so on, folded or auto")
        if self.form not in ("auto", *FORMS):
            raise TargetError(f"form={self.form} is not known", f"choose auto, {', '.join(FORMS)}")
        if self.device not in DEVICES:
            raise TargetError(f"device '{self.device}' is unknown", f"known devices: {', '.join(DEVICES)}")
        if not 1 <= self.clock <= 1000:
            raise TargetError(f"clock={self.clock} MHz is not between 1 and 1000")
        if self.target_fps is not None and not self.target_fps > 0:
            raise TargetError(f"target_fps={self.target_fps} is not above 0")

    @property
    def period(self) -> float:
        return 1000.0 / self.clock

    @property
    def luts(self) -> int:
        return self.max_luts if self.max_luts is not None else DEVICES[self.device][0]

    @property
    def block_memories(self) -> int:
        return self.max_bram if self.max_bram is not None else DEVICES[self.device][1]
