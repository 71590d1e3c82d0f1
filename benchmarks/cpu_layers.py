"""Hand-made sparse layers against our own dense kernel on the same shapes with no zeros.

HetConv and pattern pruning must reach 85 % of 1 / (kept fraction); unstructured zeros must never cost time.  Several
layers stand in a row, as in a network, so that channels between them may be reordered; `--stack 1` measures one alone.
`python -m benchmarks.cpu_layers [--rows hetconv-p2] [--size 14] [--stack 3] [--threads 1] [--json FILE] [--check]`
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks import masks
from benchmarks.measure import runtime_peer
from benchmarks.models import CACHE, LayerShape, stack, write
from benchmarks.results import speed_up
from benchmarks.session import Session, parser

SHARE_OF_IDEAL = 0.85
CHANNELS = 256
RUNTIMES = ("onnxruntime", "lhcc")
Draw = Callable[[np.random.Generator, masks.Shape], masks.Mask]

# How a layer's zeros are drawn, and the share of the ideal that is asked; None asks only not to be slower than dense.
CASES: dict[str, tuple[Draw, float | None]] = {
    "hetconv-p2": (lambda rng, shape: masks.hetconv(shape, 2), SHARE_OF_IDEAL),
    "hetconv-p4": (lambda rng, shape: masks.hetconv(shape, 4), SHARE_OF_IDEAL),
    "hetconv-p8": (lambda rng, shape: masks.hetconv(shape, 8), SHARE_OF_IDEAL),
    "pattern-per-kernel": (lambda rng, shape: masks.patterns(rng, shape, 8, 4), SHARE_OF_IDEAL),
    "pattern-per-filter": (lambda rng, shape: masks.patterns(rng, shape, 8, 4, per="filter"), SHARE_OF_IDEAL),
    "unstructured-0.1": (lambda rng, shape: masks.unstructured(rng, shape, 0.1), None),
}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=14, help="height and width of the image")
    options.add_argument("--stack", type=int, default=3, help="how many layers in a row")
    options.add_argument("--rows", default=",".join(CASES), help="only these layers, separated by commas")
    options.set_defaults(threads="1")
    args = options.parse_args()
    session = Session("cpu_layers", args)
    shape = LayerShape(CHANNELS, CHANNELS, 3, args.size)
    dense = _file(shape, "dense", [None] * args.stack)
    for name in args.rows.split(","):
        draw, share = CASES[name]
        rng = np.random.default_rng(0)
        drawn = [draw(rng, shape.weight_shape) for _ in range(args.stack)]
        pruned = _file(shape, name, drawn)
        kept = float(np.mean(drawn))
        for threads in session.thread_counts:
            peers = session.peers(pruned, threads, RUNTIMES)
            peers += [runtime_peer(runtime, dense, threads, name=f"{runtime}, no zeros") for runtime in RUNTIMES]
            title = f"{args.stack} x {name} {shape}, {kept:.1%} kept"
            case = session.measure(title, peers, threads, layer=name, kept=kept, stack=args.stack)
            speed = speed_up(case.result("lhcc, no zeros"), case.result("lhcc"))
            asked = 1.0 if share is None else share / kept
            session.ask(f"{case.title}: speed-up over our dense kernel", speed, asked)
    return session.finish()


def _file(shape: LayerShape, name: str, drawn: Sequence[masks.Mask | None]) -> Path:
    path = CACHE / f"stack{len(drawn)}-{shape}-{name}.onnx"
    return path if path.exists() else write(stack(shape, drawn), path)


if __name__ == "__main__":
    raise SystemExit(main())
