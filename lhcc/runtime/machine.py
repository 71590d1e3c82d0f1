"""Which processor this is, and whether it has what an artifact's code needs."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable
from pathlib import Path

from lhcc.runtime.program import Machine

# LLVM's name of every feature whose instructions ordinary compiled code may contain -> the kernel's name for it.
FEATURE_FLAGS = {
    "x86_64": {
        "sse3": "pni", "ssse3": "ssse3", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "popcnt": "popcnt", "movbe": "movbe",
        "avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "bmi": "bmi1", "bmi2": "bmi2", "lzcnt": "abm",
        "gfni": "gfni", "avxvnni": "avx_vnni", "avx512f": "avx512f", "avx512dq": "avx512dq", "avx512cd": "avx512cd",
        "avx512bw": "avx512bw", "avx512vl": "avx512vl", "avx512ifma": "avx512ifma", "avx512vbmi": "avx512vbmi",
        "avx512vbmi2": "avx512_vbmi2", "avx512vnni": "avx512_vnni", "avx512bitalg": "avx512_bitalg",
        "avx512vpopcntdq": "avx512_vpopcntdq", "avx512bf16": "avx512_bf16", "avx512fp16": "avx512_fp16",
    },
    "aarch64": {
        "neon": "asimd", "dotprod": "asimddp", "fullfp16": "asimdhp", "i8mm": "i8mm", "bf16": "bf16", "lse": "atomics",
        "sve": "sve", "sve2": "sve2", "rdm": "asimdrdm", "crc": "crc32", "rcpc": "lrcpc",
    },
    "armv7l": {"neon": "neon", "vfp4": "vfpv4", "hwdiv-arm": "idiva", "hwdiv": "idivt"},
    "riscv64": {"m": "m", "a": "a", "f": "f", "d": "d", "c": "c", "v": "v"},
}  # fmt: skip


# other names of the architectures, as systems and LLVM spell them
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l", "armv7": "armv7l", "armv7a": "armv7l"}


def needed(arch: str, llvm_features: Iterable[str], system: str = "linux") -> Machine:
    """What code for `arch`, compiled with these LLVM features switched on, needs of a processor."""
    known = FEATURE_FLAGS.get(arch, {})
    return Machine(arch, tuple(sorted(set(llvm_features) & known.keys())), system)


@functools.cache
def host_arch() -> str:
    return ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower())


@functools.cache
def host_system() -> str:
    return {"darwin": "macos"}.get(platform.system().lower(), platform.system().lower())


@functools.cache
def host_flags() -> frozenset[str]:
    """The processor's features in the kernel's words; empty where there is no /proc/cpuinfo."""
    return cpuinfo_flags(_cpuinfo(), host_arch())


def cpuinfo_flags(cpuinfo: str, arch: str) -> frozenset[str]:
    """The features in `cpuinfo`; none if it is of another processor, as emulators show that on which they run."""
    wanted = {"x86_64": "flags", "riscv64": "isa"}.get(arch, "Features")
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == wanted == "isa":  # rv64imafdc, a letter each, then _names
            base, *names = value.strip().lower().split("_")
            return frozenset([*base[4:], *names])
        if key.strip() == wanted:
            return frozenset(value.split())
    return frozenset()


@functools.cache
def processor_name() -> str:
    for line in _cpuinfo().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def mismatch(machine: Machine) -> str | None:
    """Why this processor cannot run code made for `machine`, or None if it can."""
    made_for, here = _kind(machine.arch, machine.system), _kind(host_arch(), host_system())
    if made_for != here:
        return f"it was compiled for {made_for}, this machine is {here}"
    flags = host_flags()
    known = FEATURE_FLAGS.get(machine.arch, {})
    missing = [feature for feature in machine.features if known.get(feature, feature) not in flags]
    if flags and missing:
        return f"its code uses {', '.join(missing)}, which this processor ({processor_name()}) lacks"
    return None


def _kind(arch: str, system: str) -> str:
    return arch if system == "linux" else f"{arch} under {system}"


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
