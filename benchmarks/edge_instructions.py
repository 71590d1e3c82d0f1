"""How many instructions does a network take on each board, dense and compressed?  Counted under QEMU: no times."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.models import CACHE, NETWORKS, network_file

BOARDS = ("raspberry-pi-4", "raspberry-pi-5", "armv7", "riscv64", "riscv64-rvv")
MARK = 0.2  # of the dense network's instructions, at a density of 0.1
TOLERANCE = 1e-5  # of the largest value that this machine answers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="vgg16-cifar", choices=sorted(NETWORKS))
    parser.add_argument("--density", type=float, default=0.1)
    parser.add_argument("--boards", nargs="+", default=list(BOARDS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--check", action="store_true", help=f"fails if a board takes more than {MARK} of the dense count"
    )
    arguments = parser.parse_args()

    import numpy as np

    import lhcc
    from lhcc.runtime.library import import_tvm

    import_tvm()
    paths = {density: str(network_file(arguments.network, density, CACHE)) for density in (arguments.density, 1.0)}
    here = lhcc.compile(paths[arguments.density])
    x = here.random_inputs(1)
    expected = np.asarray(here(*x))
    rows = []
    for board in arguments.boards:
        sparse, dense = (lhcc.compile(path, board).emulate(*x) for path in paths.values())
        wrong = float(np.abs(sparse.outputs[0] - expected).max() / np.abs(expected).max())
        rows.append(
            {
                "board": board,
                "emulator": sparse.emulator,
                "dense": dense.total,
                "compressed": sparse.total,
                "share": sparse.total / dense.total,
                "per_kept_mac": sparse.total / sum(layer.macs_kept for layer in sparse.layers),
                "difference": wrong,
            }
        )
        print("{board}: {compressed:,} of {dense:,} instructions, {share:.3f}".format_map(rows[-1]), flush=True)
    if arguments.json:
        found = {"network": arguments.network, "density": arguments.density, "boards": rows}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    missed = [row["board"] for row in rows if row["share"] > MARK or row["difference"] > TOLERANCE]
    if arguments.check and missed:
        print(f"missed: {', '.join(map(str, missed))}")
    return bool(missed and arguments.check)


if __name__ == "__main__":
    raise SystemExit(main())
