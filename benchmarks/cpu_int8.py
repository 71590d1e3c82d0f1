"""Dyadic networks in integer arithmetic against the int8 paths of OpenVINO (nncf) and ONNX Runtime (static QDQ).

The rivals run the same network dense.  Answers of int8 runtimes differ by their rounding: errors are shown, not judged.
`python -m benchmarks.cpu_int8 [--rows vgg16-cifar:0.1] [--threads 1] [--json FILE] [--check]`
"""

from __future__ import annotations

from benchmarks.measure import runtime_peer
from benchmarks.models import network_file
from benchmarks.results import speed_up
from benchmarks.session import Session, parser

RIVALS = ("onnxruntime-int8", "openvino-int8")
# Speed-up asked for over the faster rival, at one thread.
ASKED = {("vgg16-cifar", 0.1): 7.0, ("vgg16-cifar", 0.2): 4.0}
OVER_OUR_FP32 = 2.0
DENSE = "resnet50"
DENSE_ASKED = 0.7


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", help="NETWORK:DENSITY, separated by commas (default: all)")
    options.set_defaults(threads="1")
    args = options.parse_args()
    session = Session("cpu_int8", args)
    rows = [*(f"{name}:{density:g}" for name, density in ASKED), f"{DENSE}:1"]
    for row in args.rows.split(",") if args.rows else rows:
        name, _, text = row.partition(":")
        density = float(text or 1)
        model = network_file(name, density)
        for threads in session.thread_counts:
            # The first peer gives the answer in fp32 from which every error is counted.
            runtimes = ("onnxruntime", *RIVALS, "lhcc")
            peers = session.peers(model, threads, runtimes)
            if density < 1:
                peers.append(runtime_peer("lhcc-int8", model, threads))
            else:
                peers.append(runtime_peer("lhcc-qdq", model, threads))
            case = session.measure(f"{name}, density {density:g}", peers, threads, network=name, density=density)
            ours = peers[-1].name
            speed = case.speed(ours, "int8")
            if (name, density) in ASKED:
                session.ask(f"{case.title}: over the faster int8 rival", speed, ASKED[name, density])
                over_fp32 = speed_up(case.result("lhcc"), case.result(ours))
                session.ask(f"{case.title}: over our fp32", over_fp32, OVER_OUR_FP32)
            elif (name, density) == (DENSE, 1.0):
                session.ask(f"{case.title}: QDQ against the faster int8 rival", speed, DENSE_ASKED)
    return session.finish()


if __name__ == "__main__":
    raise SystemExit(main())
