"""Does the time fall with the multiply-adds?  Networks with learned kernel shapes against the fastest fp32 peer.

`python -m benchmarks.cpu_lhc [--rows vgg16-cifar:0.1,resnet50] [--threads 1,2] [--scale] [--json FILE] [--check]`
A row is NETWORK or NETWORK:DENSITY.  --scale adds OpenVINO in bfloat16 and int8: other arithmetic, shown for scale.
"""

from __future__ import annotations

from benchmarks.models import network_file
from benchmarks.results import speed_up
from benchmarks.session import Session, parser

PEERS = ("onnxruntime", "openvino", "inductor")
SCALE = ("openvino-bf16", "openvino-int8")
# Speed-up asked for over the fastest peer on the same file, at one and at two threads.
ASKED = {
    ("vgg16-cifar", 0.1): 12.0,
    ("vgg16-cifar", 0.2): 6.5,
    ("vgg16-cifar", 0.5): 2.1,
    ("resnet18-cifar", 0.1): 9.0,
    ("resnet34", 0.1): 5.5,
    ("resnet34", 0.2): 3.2,
    ("resnet50", 0.1): 5.0,
    ("resnet50", 0.2): 3.2,
    ("resnet50", 0.5): 1.5,
    ("vgg16-cifar", 1.0): 0.9,
    ("resnet18-cifar", 1.0): 0.9,
}


def chosen(rows: str | None) -> list[tuple[str, float]]:
    """The rows that a filter such as `vgg16-cifar:0.1,resnet50` names; all without a filter."""
    if rows is None:
        return list(ASKED)
    found: list[tuple[str, float]] = []
    for row in rows.split(","):
        name, _, density = row.partition(":")
        found += [(name, float(density))] if density else [key for key in ASKED if key[0] == name]
    return found


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", help="NETWORK or NETWORK:DENSITY, separated by commas (default: all)")
    options.add_argument("--scale", action="store_true", help="also OpenVINO in bfloat16 and int8")
    args = options.parse_args()
    session = Session("cpu_lhc", args)
    # Compiling with inductor takes longer than a quick run may.
    peers = PEERS[:2] if session.quick else PEERS
    scale = SCALE if args.scale else ()
    for name, density in chosen(args.rows):
        for threads in session.thread_counts:
            model = network_file(name, density)
            runtimes = (*peers, *scale, "lhcc")
            title = f"{name}, density {density:g}"
            case = session.measure(
                title, session.peers(model, threads, runtimes), threads, network=name, density=density
            )
            if (name, density) in ASKED:
                asked = ASKED[name, density]
                session.ask(f"{case.title}: speed-up over the fastest peer", case.speed("lhcc"), asked)
            if args.scale and density <= 0.1:
                for other in SCALE:
                    speed = speed_up(case.result(other), case.result("lhcc"))
                    session.ask(f"{case.title}: our fp32 against {other}", speed, 1.0)
    return session.finish()


if __name__ == "__main__":
    raise SystemExit(main())
