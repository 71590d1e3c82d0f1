"""Are our dense kernels good enough?  Ordinary networks against the fastest of ONNX Runtime and OpenVINO, in fp32.

`python -m benchmarks.cpu_dense [--rows vgg16-cifar,mobilenetv2] [--threads 1,2] [--json FILE] [--check]`
"""

from __future__ import annotations

from benchmarks.models import network_file
from benchmarks.session import Session, parser

PEERS = ("onnxruntime", "openvino")
ASKED = {"vgg16-cifar": 0.85, "resnet34": 0.8, "mobilenetv2": 0.7}


def main() -> int:
    options = parser(__doc__)
    options.add_argument("--rows", default=",".join(ASKED), help="networks to measure")
    args = options.parse_args()
    session = Session("cpu_dense", args)
    for name in args.rows.split(","):
        for threads in session.thread_counts:
            model = network_file(name)
            case = session.measure(name, session.peers(model, threads, (*PEERS, "lhcc")), threads, network=name)
            if name in ASKED:
                session.ask(f"{case.title}: speed against the fastest peer", case.speed("lhcc"), ASKED[name])
    return session.finish()


if __name__ == "__main__":
    raise SystemExit(main())
