"""Is a network as standalone C as fast as its artifact?

The folder that `--emit c` writes, built by its own Makefile with GCC and with Clang, against the artifact's kernels,
which are called without Python's checks of the inputs.

`python -m benchmarks.edge_c [--networks digits,vgg16-cifar] [--compilers gcc,clang] [--json FILE] [--check]`
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Peer, runtime_peer
from benchmarks.models import CACHE, network_file
from benchmarks.results import ROOT, speed_up
from benchmarks.session import Session, parser

DENSITY = 0.1  # of the VGG-16
ASKED = {"digits": 1.3, "vgg16-cifar": 1.5}  # times the artifact's time, at most


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--networks", default=",".join(ASKED), help=f"which of {', '.join(ASKED)} (default all)")
    options.add_argument("--compilers", default="gcc,clang", help="which C compilers (default gcc,clang)")
    options.set_defaults(threads="1")
    args = options.parse_args()
    compilers = [name for name in args.compilers.split(",") if shutil.which(name)]
    built = {name: build(name, compilers) for name in args.networks.split(",")}
    session = Session("edge_c", args)
    for name, (model, peers) in built.items():
        artifact = replace(runtime_peer("lhcc-kernels", model, 1, name="artifact"), role="rival")
        versions = {peer.name: _version(compiler) for compiler, peer in zip(compilers, peers, strict=True)}
        case = session.measure(name, [artifact, *peers], 1, compilers=versions)
        for peer in peers:
            time = speed_up(case.result(peer.name), case.result("artifact"))
            session.ask(f"{name}: time of {peer.name} over the artifact's", time, ASKED[name], at_least=False)
    return session.finish()


def build(name: str, compilers: list[str], folder: Path = CACHE) -> tuple[Path, list[Peer]]:
    """The network's file, and a peer for each compiler's build of its C."""
    import lhcc
    from lhcc.runtime.library import import_tvm

    import_tvm()
    folder.mkdir(parents=True, exist_ok=True)
    digits = ROOT / "examples" / "digits" / "vgg_lhc_free.onnx"
    model = digits if name == "digits" else network_file(name, DENSITY, folder)
    emitted = lhcc.emit(str(model), folder / f"{name}-c", name="net")
    peers = []
    for compiler in compilers:
        library = _library(Path(emitted.output), compiler, folder / f"{name}-{compiler}.so")
        label = f"C by {compiler}"
        peers.append(runtime_peer("lhcc-c", model, 1, label, library=str(library), arena=str(emitted.arena_bytes)))
    return model, peers


def _library(folder: Path, compiler: str, library: Path) -> Path:
    """The Makefile's own build, with position-independent code, so that one process can load it."""
    make = ["make", "-s", "-C", str(folder), f"CC={compiler}", "CFLAGS=-O3 -fPIC"]
    subprocess.run([*make, "clean"], check=True)
    subprocess.run([*make, "libnet.a"], check=True)
    whole = ["-Wl,--whole-archive", str(folder / "libnet.a"), "-Wl,--no-whole-archive"]
    subprocess.run([compiler, "-shared", "-o", str(library), *whole, "-lm"], check=True)
    return library


def _version(compiler: str) -> str:
    said = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\d+\.\d+\.\d+", said)
    return found.group() if found else said.splitlines()[0]


if __name__ == "__main__":
    raise SystemExit(main())
