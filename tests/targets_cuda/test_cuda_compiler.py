"""What CUDA's compiler says about the kernels: they compile for every architecture, nothing spills, all fits.

`python -m tests.targets_cuda.test_cuda_compiler` compiles every test network for every architecture and prints a table;
with `--json FILE` only what is new: a row holds the digest of the source that the compiler saw.
"""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Iterator
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from lhcc.frontend import import_model  # noqa: E402
from lhcc.pipeline import lower  # noqa: E402
from lhcc.targets import base  # noqa: E402
from lhcc.targets.cuda import nvcc  # noqa: E402
from lhcc.targets.cuda.arch import Arch  # noqa: E402
from lhcc.targets.cuda.build import compile_kernels, sources  # noqa: E402
from lhcc.targets.cuda.codegen import Launch, Source  # noqa: E402
from tests.zoo import ZOO  # noqa: E402

ARCHS = ("sm_75", "sm_80", "sm_90")
QUICK = [("lenet5", "sm_75", "fp16"), ("lenet5", "sm_80", "fp32"), ("resnet18-64", "sm_90", "fp16")]
needs_nvcc = pytest.mark.skipif(nvcc.find() is None, reason=f"nvcc is not installed: {nvcc.INSTALL}")


@functools.cache
def _imported(name: str) -> Any:
    return import_model(ZOO[name].model(), (torch.randn(1, *ZOO[name].shape),), None)


def network_source(name: str, arch: str, precision: str) -> Source:
    target: Any = base.parse(f"cuda:arch={arch},precision={precision}")
    return sources(lower(_imported(name), target, base.Options()), target.machine)


def faults(source: Source, arch: str) -> Iterator[str]:
    """What is wrong with the kernels of a network, in words."""
    code, usage = compile_kernels(source, arch)
    if code[:4] != b"\x50\xed\x55\xba":  # the magic number of a fat binary
        yield "the result is no fat binary"
    reported = {use.kernel: use for use in usage}
    for launch in source.launches.values():
        use = reported.get(launch.kernel)
        if use is None or use.arch != arch:
            yield f"{launch.kernel}: the compiler does not report it for {arch}"
            continue
        if use.spills or use.stack:
            yield f"{launch.kernel}: {use.spills} bytes of spills, {use.stack} of stack, {use.registers} registers"
        if launch.shared + use.shared > Arch(int(arch.removeprefix("sm_"))).shared:
            yield f"{launch.kernel}: {launch.shared + use.shared} bytes of shared memory"
        if use.registers * launch.threads > 1 << 16 or launch.threads > 1024 or launch.grid[1] > 65535:
            yield f"{launch.kernel}: {launch.threads} threads of {use.registers} registers, grid {launch.grid}"


@needs_nvcc
@pytest.mark.parametrize(("name", "arch", "precision"), QUICK)
def test_kernels_compile_and_nothing_spills(name: str, arch: str, precision: str) -> None:
    assert not list(faults(network_source(name, arch, precision), arch))


@pytest.mark.slow
@needs_nvcc
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("name", ZOO)
def test_every_network_compiles_for_every_architecture(name: str, arch: str, precision: str) -> None:
    assert not list(faults(network_source(name, arch, precision), arch))


def test_the_report_is_read() -> None:
    report = (
        "ptxas info    : Compiling entry function 'conv_kernel' for 'sm_80'\n"
        "ptxas info    : Function properties for conv_kernel\n"
        "    24 bytes stack frame, 16 bytes spill stores, 28 bytes spill loads\n"
        "ptxas info    : Used 80 registers, used 1 barriers, 24 bytes cumulative stack size, 1024 bytes smem\n"
    )
    assert nvcc.usage(report) == [nvcc.Usage("conv_kernel", "sm_80", 80, 24, 44, 1024)]


@pytest.mark.parametrize("bounds", ["64, 8", "64"])
def test_a_kernel_that_spills_gets_more_registers(bounds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"__launch_bounds__(128, 4) a_kernel(int x) {{}} __launch_bounds__({bounds}) b_kernel(int x) {{}}"
    compiled: list[str] = []

    def compile_source(complete: str, arch: str) -> tuple[bytes, list[nvcc.Usage]]:
        compiled.append(complete)
        return b"", [nvcc.Usage("b_kernel", arch, 128, 0, 8 if len(compiled) == 1 else 0, 0)]

    monkeypatch.setattr(nvcc, "compile_source", compile_source)
    launch = Launch("b_kernel", (1, 1), 64, 0, ())
    compile_kernels(Source(text, {"b": launch}), "sm_80")
    assert len(compiled) == 2 and compiled[1].endswith(
        "__launch_bounds__(128, 4) a_kernel(int x) {} __launch_bounds__(64, 1) b_kernel(int x) {}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", default=list(ZOO))
    parser.add_argument("--archs", nargs="+", default=ARCHS)
    parser.add_argument("--precisions", nargs="+", default=["fp16", "fp32"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    rows = {(row["network"], row["arch"], row["precision"]): row for row in known}
    for name, precision, arch in product(options.networks, options.precisions, options.archs):
        if precision in ("tf32", "bf16") and arch == "sm_75":
            continue  # refused: it has no such instructions
        source = network_source(name, arch, precision)
        digest = sha256(source.complete().encode()).hexdigest()[:16]
        row = rows.get((name, arch, precision), {})
        if row.get("source") != digest:
            row = {"network": name, "arch": arch, "precision": precision, "source": digest}
            row["faults"] = list(faults(source, arch))
            rows[name, arch, precision] = row
        print(f"{name:20} {arch} {precision}: {'; '.join(row['faults']) or 'ok'}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(list(rows.values()), indent=1))
    failed = any(row["faults"] for row in rows.values())
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
