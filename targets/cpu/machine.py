"""What kernels need to know of a processor: its vectors, registers and the LLVM target that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lhcc.errors import TargetError, near
from lhcc.targets.boards import Board

ARGUMENTS = ("mcpu", "mtriple", "mattr")
LINE = 64  # bytes of a cache line
# By lanes and registers: LLVM's feature, and the instruction that adds products of four bytes.  The bytes of "sdot" are
# signed; those of the input are unsigned for the others.
DOTS = {
    (16, 32): (("avx512vnni", "vpdpbusd"),),
    (8, 16): (("avxvnni", "vpdpbusd"),),
    (4, 32): (("i8mm", "usdot"), ("dotprod", "sdot")),
}
# How a triple may begin beside LLVM's own names of architectures.
ALIASES = re.compile(r"amd64|x86_64h|i[3-9]86|arm64(e|_32)?|(arm|thumb)(eb)?v\d[\w.]*")
GENERIC = {"riscv64": "generic-rv64"}  # where LLVM's word for any processor is not "generic"


@dataclass(frozen=True)
class Machine:
    mcpu: str
    mtriple: str
    mattr: tuple[str, ...]
    lanes: int  # float32 per vector register
    registers: int
    block: int = 16  # channels of a blocked feature map
    dot: str = ""  # the instruction that multiplies four bytes with four others and adds all products: of DOTS, or none
    madd: bool = False  # instructions that multiply pairs of bytes, and pairs of halves, and add the two products
    l1: int = 32 << 10  # bytes of cache that one core can count on
    l2: int = 1 << 20
    fma: float = 2.0  # vector multiply-adds, and loads, that begin per cycle; cycles until a sum can be used again
    loads: float = 2.0
    latency: float = 4.0

    @property
    def narrow(self) -> tuple[str, ...]:
        """The integers of less than 32 bits, narrowest first, that it has instructions to add products of."""
        return ("bytes",) * bool(self.dot or self.madd) + ("halves",) * self.madd

    def vectors(self) -> int:
        """Vectors per block of output channels."""
        return max(1, self.block // self.lanes)

    def accumulators(self, vectors: int) -> int:
        """Registers left for sums beside the weights of one channel and, where inputs are not operands, one input."""
        spare = 4 if self.registers == 32 else vectors + 2
        return self.registers - max(spare, vectors + (1 if self.lanes < 16 else 0))

    def tvm_target(self, **more: Any) -> Any:
        import tvm

        config: dict[str, Any] = {"kind": "llvm", "mcpu": self.mcpu, **more}
        if self.mtriple:
            config["mtriple"] = self.mtriple
        if self.mattr:
            config["mattr"] = list(self.mattr)
        if self.mtriple.endswith("hf"):
            config["mfloat-abi"] = "hard"
        if self.mtriple.startswith("riscv64") and "+d" in self.mattr:
            config["mabi"] = "lp64d"
        return tvm.target.Target(config)


def create(arguments: Mapping[str, str], board: Board | None = None) -> Machine:
    """The machine that `mcpu`, `mtriple` and `mattr` describe, or a preset; without either, this one."""
    from tvm.target import codegen as llvm

    unknown = sorted(set(arguments) - set(ARGUMENTS))
    if unknown:
        raise TargetError(f"target 'cpu' has no argument '{unknown[0]}'", f"it takes {', '.join(ARGUMENTS)}")
    if board is not None:
        arguments = {**board.arguments(), **arguments}
    triple = arguments.get("mtriple", "")
    architecture = triple.split("-")[0]
    if triple and not ALIASES.fullmatch(architecture):  # asked about one that it does not know, LLVM ends the process
        architectures = {str(name) for name in llvm.llvm_get_targets()}
        if architecture not in architectures:
            raise TargetError(
                f"LLVM knows no architecture '{architecture}', with which mtriple={triple} begins",
                near(architecture, architectures),
            )
    generic = GENERIC.get(architecture, "generic")
    mcpu = arguments.get("mcpu", generic if triple else str(llvm.llvm_get_system_cpu()))
    mattr = tuple(filter(None, arguments.get("mattr", "").split("+")))
    known = {str(arch) for arch in llvm.llvm_get_cpu_archlist(Machine("generic", triple, (), 4, 32).tvm_target())}
    if mcpu not in {"generic", *known}:
        raise TargetError(f"LLVM knows no processor '{mcpu}' for {triple or 'this machine'}", near(mcpu, known))
    machine = Machine(mcpu, triple, tuple(f"+{a}" for a in mattr), 4, 32)
    features = {str(feature) for feature in llvm.llvm_get_cpu_features(machine.tvm_target())}
    if strange := [name for name in mattr if name not in features]:
        raise TargetError(
            f"LLVM knows no feature '{strange[0]}' for {triple or 'this machine'}", near(strange[0], features)
        )
    lanes, registers = _vectors(features, triple)
    dot = next((name for feature, name in DOTS.get((lanes, registers), ()) if feature in features), "")
    madd = {16: "avx512bw", 8: "avx2", 4: "ssse3"}[lanes] in features
    block = 16 if registers > 8 else 8  # sums of several pixels and the weights that they share are then in registers
    machine = replace(machine, lanes=lanes, registers=registers, block=block, dot=dot, madd=madd)
    if board is None:
        return machine
    return replace(machine, l1=board.l1, l2=board.l2, fma=board.fma, loads=board.loads, latency=board.latency)


def _vectors(features: set[str], triple: str) -> tuple[int, int]:
    if "avx512f" in features:
        return 16, 32
    if "avx2" in features or "avx" in features:
        return 8, 16
    if "zvl256b" in features:
        return 8, 32
    if triple.startswith(("aarch64", "arm64")) or "v" in features:
        return 4, 32
    if "neon" in features or "sse2" in features:
        return 4, 16
    return 4, 8  # Helium's; or 32 scalar registers, four of which stand for a vector
