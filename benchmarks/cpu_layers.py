"""Hand-made sparse layers against our own dense kernel on the same shape with no zeros.

HetConv and pattern pruning must reach 85 % of 1 / (kept fraction); unstructured zeros must never cost time.
`python -m benchmarks.cpu_layers [--size 14] [--threads 1] [--json FILE] [--check]`
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import masks
from benchmarks.measure import runtime_peer
from benchmarks.models import CACHE, LayerShape, layer, write
from benchmarks.results import speed_up
from benchmarks.session import Session, parser

SHARE_OF_IDEAL = 0.85
CHANNELS = 256


def cases(shape: LayerShape) -> dict[str, tuple[masks.Mask, float | None]]:
    """Mask of each layer, and the share of the ideal that is asked; None asks only not to be slower than dense."""
    rng = np.random.default_rng(0)
    weights = shape.weight_shape
    found: dict[str, tuple[masks.Mask, float | None]] = {
        f"hetconv-p{period}": (masks.hetconv(weights, period), SHARE_OF_IDEAL) for period in (2, 4, 8)
    }
    found["pattern-per-kernel"] = masks.patterns(rng, weights, count=8, taps=4), SHARE_OF_IDEAL
    found["pattern-per-filter"] = masks.patterns(rng, weights, count=8, taps=4, per="filter"), SHARE_OF_IDEAL
    found["unstructured-0.1"] = masks.unstructured(rng, weights, 0.1), None
    return found


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=14, help="height and width of the image")
    options.add_argument("--rows", help="only these layers, separated by commas")
    options.set_defaults(threads="1")
    args = options.parse_args()
    session = Session("cpu_layers", args)
    shape = LayerShape(CHANNELS, CHANNELS, 3, args.size)
    dense = _file(shape, "dense", None)
    chosen = cases(shape)
    for name in args.rows.split(",") if args.rows else chosen:
        mask, share = chosen[name]
        pruned = _file(shape, name, mask)
        for threads in session.thread_counts:
            peers = [
                runtime_peer("onnxruntime", pruned, threads),
                runtime_peer("onnxruntime", dense, threads, name="onnxruntime, no zeros"),
                runtime_peer("lhcc", pruned, threads),
                runtime_peer("lhcc", dense, threads, name="lhcc, no zeros"),
            ]
            kept = float(mask.mean())
            case = session.measure(f"{name} {shape}, {kept:.1%} kept", peers, threads, layer=name, kept=kept)
            speed = speed_up(case.result("lhcc, no zeros"), case.result("lhcc"))
            asked = 1.0 if share is None else share / kept
            session.ask(f"{case.title}: speed-up over our dense kernel", speed, asked)
    return session.finish()


def _file(shape: LayerShape, name: str, mask: masks.Mask | None) -> Path:
    path = CACHE / f"layer-{shape}-{name}.onnx"
    return path if path.exists() else write(layer(shape, mask), path)


if __name__ == "__main__":
    raise SystemExit(main())
