"""What a target is: a name with arguments, the passes that lower to it, and the code generator behind them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from lhcc.errors import TargetError, near
from lhcc.targets import boards

MODULES = {
    "cpu": "lhcc.targets.cpu.target",
    "cuda": "lhcc.targets.cuda.target",
    "fpga": "lhcc.targets.fpga.target",
}  # name -> module with `create(arguments)`; adding one touches nothing else


class Pass(Protocol):
    """A rewriting of the module; its dataclass fields are its options."""

    name: str

    def run(self, mod: Any, log: Any) -> Any: ...


@dataclass(frozen=True)
class Options:
    """What a user may choose beside the target."""

    threads: int = 1
    tuning: str | None = None
    precision: str = "fp32"
    arith: str = "multiply"  # "shift": integers by shifts and additions only
    encoding: str = "auto"  # "dense" keeps every tile: the baseline that compression is measured against
    strict: bool = False  # refuses a network of which the target holds only a part: nothing is left to the CPU
    io: str = "float"  # "integer": a model of integers takes and gives its integers, not the numbers they stand for
    calibrate: Any = None  # data from which int8 activations get their ranges: an array, (x, labels) or an .npz
    max_ram: int | str | None = None  # bytes, or 256K: a model that needs more is refused
    max_flash: int | str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.threads, int) or not 1 <= self.threads <= 1024:
            raise TargetError(f"threads={self.threads!r} is not a number between 1 and 1024")
        if self.precision not in ("fp32", "int8"):
            hint = "choose fp32 or int8; what GPUs have besides is an argument of the target: cuda:precision=fp16"
            raise TargetError(f"precision '{self.precision}' is unknown", hint)
        if self.io not in ("float", "integer"):
            raise TargetError(f"io '{self.io}' is unknown", "choose float or integer")
        if self.arith not in ("multiply", "shift"):
            raise TargetError(f"arith '{self.arith}' is unknown", "choose multiply or shift")
        if self.encoding not in ("auto", "dense"):
            raise TargetError(f"encoding '{self.encoding}' is unknown", "choose auto or dense")
        for limit in (self.max_ram, self.max_flash):
            boards.size(str(limit or 0))

    def limits(self, board: boards.Board | None = None) -> tuple[int | None, int | None]:
        """Bytes of RAM and of flash that there are: what the user says, or else what the preset has."""
        asked = [None if limit is None else boards.size(str(limit)) for limit in (self.max_ram, self.max_flash)]
        there = (board.ram or None, board.flash or None) if board else (None, None)
        ram, flash = (limit if mine is None else mine for mine, limit in zip(asked, there, strict=True))
        return ram, flash


class Target(Protocol):
    name: str
    integers_only: bool  # computes integer programs, never floats

    def compile_program(self, program: Any, options: Options, images: int) -> Any:
        """An executable of an integer program for `images` at a time."""

    # build(lowered, options, output_names), where a target's code does not run in TVM's virtual machine, makes the
    # executable of a lowered model

    def lower_program(self, program: Any, options: Options, images: int) -> Any:
        """The `Lowered` of an integer program; only targets that run code have one."""

    def tvm_target(self) -> Any:
        """What TVM generates code for."""

    def layout_passes(self, options: Options) -> list[Pass]:
        """The passes that lay out and encode the graph for this target."""

    def lowering_passes(self, options: Options) -> list[Pass]:
        """The passes that turn what is left into calls of kernels."""


def parse(text: str) -> Target:
    """A target by its name and arguments: `cpu`, `cpu:mcpu=cortex-a72`, the preset `raspberry-pi-4`, or `my-board` of
    a user's file, `boards.toml:my-board`."""
    if not isinstance(text, str):
        raise TargetError(f"{text!r} is no target", "a target is named, such as 'cpu'")
    file, in_file, rest = text.partition(".toml:")
    name, _, rest = (rest if in_file else text).partition(":")
    board = None
    if in_file or name not in MODULES:
        known = boards.known(f"{file}.toml" if in_file else None)
        board = known.get(name)
        if board is None:
            raise TargetError(f"target '{name}' is unknown", near(name, [*MODULES, *known]))
    arguments: dict[str, str] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key or not value:
            raise TargetError(f"'{part}' in target '{text}' is not of the form argument=value")
        arguments[key] = value
    if board is not None:
        created: Target = import_module(MODULES["cpu"]).create(arguments, board)
    else:
        created = import_module(MODULES[name]).create(arguments)
    return created
