"""Compiles trained digit networks, checks them on the 360 held-out digits, prints where their time goes.

Run: make demo, or python examples/digits/demo.py [--target cpu] [NETWORK.onnx ...].  Needs no training framework.
Without arguments it takes a dense network and its LHC twin, which keeps about an eighth of the weights.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from time import perf_counter

import numpy as np
from data import HERE, Images, held_out

import lhcc
from lhcc.runtime.executable import Executable

REQUIRED_ACCURACY = 0.97
ROUNDS = 500


def microseconds(executables: dict[str, Executable], image: Images) -> dict[str, float]:
    """Median time of one image, the networks taking turns so that all of them meet the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in executables}
    for _ in range(ROUNDS):
        for name, executable in executables.items():
            executable(image)  # brings its weights back into the cache
            start = perf_counter()
            executable(image)
            taken[name].append(1e6 * (perf_counter() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", type=Path, default=[HERE / "vgg.onnx", HERE / "vgg_lhc_free.onnx"])
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    images, labels = held_out()
    executables: dict[str, Executable] = {}
    failed = 0
    for path in arguments.networks:
        executable = lhcc.compile(str(path), target=arguments.target, threads=arguments.threads)
        named = np.array([int(np.argmax(executable(image[None]))) for image in images])
        correct = int(np.sum(named == labels))
        share = f"{correct} of {len(labels)} held-out digits ({correct / len(labels):.2%})"
        print(f"{path.name} on {arguments.target}: {share}")
        print(f"{executable.profile(images[:1])}\n")
        executables[path.name] = executable
        failed += correct < REQUIRED_ACCURACY * len(labels)
    times = microseconds(executables, images[:1])
    first, *others = times
    for other in others:
        print(f"{other}: {times[other]:.1f} us an image, {times[first] / times[other]:.2f} x the speed of {first}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
