"""What kernels need to know of a processor: its vectors, registers and the LLVM target that names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lhcc.errors import TargetError

ARGUMENTS = ("mcpu", "mtriple", "mattr")


@dataclass(frozen=True)
class Machine:
    mcpu: str
    mtriple: str
    mattr: tuple[str, ...]
    lanes: int  # float32 per vector register
    registers: int
    block: int = 16  # channels of a blocked feature map
    dot: bool = False  # an instruction that multiplies four unsigned with four signed bytes and adds (AVX-512 VNNI)

    def vectors(self) -> int:
        """Vectors per block of output channels."""
        return max(1, self.block // self.lanes)

    def accumulators(self, vectors: int) -> int:
        """Registers left for sums beside the weights of one channel and, where inputs are not operands, one input."""
        spare = 4 if self.registers == 32 else vectors + 2
        return self.registers - max(spare, vectors + (1 if self.lanes < 16 else 0))

    def tvm_target(self) -> Any:
        import tvm

        config: dict[str, Any] = {"kind": "llvm", "mcpu": self.mcpu}
        if self.mtriple:
            config["mtriple"] = self.mtriple
        if self.mattr:
            config["mattr"] = list(self.mattr)
        return tvm.target.Target(config)


def create(arguments: Mapping[str, str]) -> Machine:
    """The machine that `mcpu`, `mtriple` and `mattr` describe; without arguments, this one."""
    from tvm.target import codegen as llvm

    unknown = sorted(set(arguments) - set(ARGUMENTS))
    if unknown:
        raise TargetError(f"target 'cpu' has no argument '{unknown[0]}'", f"it takes {', '.join(ARGUMENTS)}")
    triple = arguments.get("mtriple", "")
    mcpu = arguments.get("mcpu", "generic" if triple else str(llvm.llvm_get_system_cpu()))
    mattr = tuple(filter(None, arguments.get("mattr", "").split("+")))
    if mcpu != "generic" and mcpu not in {
        str(arch) for arch in llvm.llvm_get_cpu_archlist(Machine("generic", triple, (), 4, 32).tvm_target())
    }:
        raise TargetError(f"LLVM does not know the processor '{mcpu}' for '{triple or 'this machine'}'")
    machine = Machine(mcpu, triple, tuple(f"+{a}" for a in mattr), 4, 32)
    features = {str(feature) for feature in llvm.llvm_get_cpu_features(machine.tvm_target())}
    lanes, registers = _vectors(features, triple)
    dot = lanes == 16 and "avx512vnni" in features
    return Machine(mcpu, triple, machine.mattr, lanes, registers, dot=dot)


def _vectors(features: set[str], triple: str) -> tuple[int, int]:
    if "avx512f" in features:
        return 16, 32
    if "avx2" in features or "avx" in features:
        return 8, 16
    if "neon" in features or triple.startswith("aarch64"):
        return 4, 32
    return 4, 16
