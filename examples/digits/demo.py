"""Compiles trained digit networks, checks them on the 360 held-out digits, prints where their time goes.

Run: make demo, or python examples/digits/demo.py [--target cpu] [NETWORK.onnx ...].  Needs no training framework.
Without arguments it takes a dense network and its LHC twin, which keeps about an eighth of the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from data import HERE, held_out

import lhcc

REQUIRED_ACCURACY = 0.97


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path, default=[HERE / "vgg.onnx", HERE / "vgg_lhc_free.onnx"])
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    images, labels = held_out()
    times: dict[str, float] = {}
    failed = 0
    for path in arguments.networks:
        executable = lhcc.compile(str(path), target=arguments.target, threads=arguments.threads)
        named = np.array([int(np.argmax(executable(image[None]))) for image in images])
        correct = int(np.sum(named == labels))
        share = f"{correct} of {len(labels)} held-out digits ({correct / len(labels):.2%})"
        print(f"{path.name} on {arguments.target}: {share}")
        profile = executable.profile(images[:1])
        print(f"{profile}\n")
        times[path.name] = profile.total_us
        failed += correct < REQUIRED_ACCURACY * len(labels)
    first, *others = times
    for other in others:
        print(f"{other}: {times[other]:.1f} us an image, {times[first] / times[other]:.2f} x the speed of {first}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
