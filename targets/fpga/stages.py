"""The stages of a streaming pipeline: what each takes in, computes per position and sends on."""

from __future__ import annotations

from dataclasses import dataclass, field

from lhcc.integer import TensorType
from lhcc.integer.core import Pair
from lhcc.targets.fpga.folded_code import Code
from lhcc.targets.fpga.folded_jobs import Folding
from lhcc.targets.fpga.netlist import Netlist
from lhcc.targets.fpga.timing import Schedule


@dataclass(frozen=True)
class Stream:
    """Pixels of an image, row by row, one per transfer with all its channels; a vector is an image of one pixel."""

    name: str
    type: TensorType
    lane_bits: int | None = None
    """bits of a channel where they are more than the type needs"""
    lanes: int | None = None
    """channels of a transfer where it is no whole pixel: all pixels of the first lanes come first"""

    @property
    def height(self) -> int:
        return self.type.shape[0] if len(self.type.shape) == 3 else 1

    @property
    def width(self) -> int:
        return self.type.shape[1] if len(self.type.shape) == 3 else 1

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def bits(self) -> int:
        """of one channel; all have the same"""
        return self.lane_bits or self.type.bits

    @property
    def word(self) -> int:
        """bits of one transfer"""
        return self.bits * (self.lanes or self.type.channels)

    @property
    def transfers(self) -> int:
        """of one image"""
        return self.pixels * (-(-self.type.channels // self.lanes) if self.lanes else 1)


@dataclass(frozen=True)
class Stage:
    """One clocked module.  `layers` are the program's instructions that it carries out."""

    name: str
    layers: tuple[str, ...]
    inputs: tuple[Stream, ...]
    output: Stream
    logic: Netlist
    schedule: Schedule

    @property
    def steps(self) -> int:
        """clock cycles from its first registers to its output"""
        return self.schedule.steps

    @property
    def adders(self) -> int:
        return self.logic.adders()

    @property
    def full_adder_bits(self) -> int:
        return self.logic.full_adder_bits()

    @property
    def delays(self) -> list[tuple[int, int]]:
        """(bits, pixels) of everything that it keeps from one pixel to later ones"""
        return []


@dataclass(frozen=True)
class Wire:
    """A wire number of a window stage's netlist: channel `channel` of the pixel under tap (row, column)."""

    row: int
    column: int
    channel: int


@dataclass(frozen=True)
class Geometry:
    """How a window slides over an image that streams past, in coordinates of the input image.

    A window position is complete once its last tap has entered: `lag` pixels after the pixel whose linear index equals
    that of the window position.  Taps outside the image are masked while neighbouring images stream past, so padding
    costs no cycle; only after the last image `flush` empty pixels push the remaining windows out."""

    height: int
    width: int
    rows: int
    columns: int
    kernel: Pair
    """extent with dilation included"""
    top: int
    left: int
    stride: Pair

    @property
    def behind(self) -> Pair:
        """rows and columns from the window's own position to its last tap"""
        return self.kernel[0] - 1 - self.top, self.kernel[1] - 1 - self.left

    @property
    def lag(self) -> int:
        return self.behind[0] * self.width + self.behind[1]

    @property
    def last(self) -> Pair:
        """the window position of the last output"""
        return (self.rows - 1) * self.stride[0], (self.columns - 1) * self.stride[1]

    @property
    def flush(self) -> int:
        (down, right), (y, x) = self.behind, self.last
        return max(0, (y + down - self.height + 1) * self.width + x + right - self.width + 1)

    @property
    def streams(self) -> bool:
        """Whether every output has a window position inside the image, as masking instead of padding needs."""
        inside = self.last[0] < self.height and self.last[1] < self.width
        return inside and min(*self.behind, self.top, self.left) >= 0

    def rows_outside(self, tap: int) -> list[int]:
        """The rows of the entering pixel at which the pixel in window row `tap` must not count."""
        down = self.behind[0]
        return [y for y in range(self.height) if not 0 <= (y - down) % self.height - self.top + tap < self.height]

    def columns_outside(self, tap: int) -> list[int]:
        right = self.behind[1]
        return [x for x in range(self.width) if not 0 <= (x - right) % self.width - self.left + tap < self.width]

    @property
    def padded(self) -> bool:
        """Whether a tap of some output is outside the image."""
        beyond = self.last[0] + self.behind[0] >= self.height or self.last[1] + self.behind[1] >= self.width
        return max(self.top, self.left) > 0 or beyond


@dataclass(frozen=True)
class SlidingStage(Stage):
    """A window slides over the stream; `wires` say which of its taps and channels the first netlist reads."""

    geometry: Geometry = field(kw_only=True)
    wires: tuple[Wire, ...] = field(kw_only=True)
    outside: int = field(default=0, kw_only=True)
    """what a tap outside the image reads"""

    @property
    def form(self) -> str:
        return "direct"

    @property
    def buffered(self) -> Geometry:
        """the window that is kept as pixels"""
        return self.geometry

    @property
    def delays(self) -> list[tuple[int, int]]:
        g, bits = self.buffered, self.inputs[0].bits
        lines = [
            (bits * len({w.channel for w in self.wires if w.row <= row}), g.width)
            for row in range(min((w.row for w in self.wires), default=0), g.kernel[0] - 1)
        ]
        return [*lines, (len(self.wires) * bits, 1)]


@dataclass(frozen=True)
class WindowStage(SlidingStage):
    """The direct form: the netlist maps all taps of the window to one output pixel."""


@dataclass(frozen=True)
class JoinStage(Stage):
    """One pixel from every input at the same time; wire numbers run through the channels of all inputs in order."""


@dataclass(frozen=True)
class AccumulateStage(Stage):
    """Sums every channel over the whole image, then applies the netlist to the sums."""


@dataclass(frozen=True)
class FifoStage:
    """Holds up to `depth` pixels of a stream, so that branches of different lag meet."""

    name: str
    inputs: tuple[Stream, ...]
    output: Stream
    depth: int


@dataclass(frozen=True)
class ArrayStage:
    """The folded block array: it takes a whole image, works through all jobs, and sends the result."""

    name: str
    layers: tuple[str, ...]
    inputs: tuple[Stream, ...]
    output: Stream
    folding: Folding
    code: Code


AnyStage = Stage | FifoStage | ArrayStage


@dataclass(frozen=True)
class Pipeline:
    """Stages in the order of the data; a stream with several readers is forked, its pixels go to all at once."""

    stages: tuple[AnyStage, ...]
    inputs: tuple[Stream, ...]
    outputs: tuple[Stream, ...]

    def readers(self, stream: Stream) -> list[AnyStage]:
        return [s for s in self.stages if stream.name in [i.name for i in s.inputs]]
