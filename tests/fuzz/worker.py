"""Compiles and runs one random network per request ("seed" or "seed:dropped,steps") and compares it with PyTorch."""

from __future__ import annotations

import traceback
from typing import Any

import numpy as np
import torch

import lhcc
from tests.fuzz.networks import Model, Network, draw
from tests.isolated import serve

TOLERANCE = 1e-5  # relative, in the 2-norm


def network_of(request: str) -> Network:
    """ "17" is the network of seed 17; "17:2,4" is that network without its steps 2 and 4."""
    seed, _, dropped = request.partition(":")
    network = draw(int(seed))
    for i in sorted(map(int, filter(None, dropped.split(","))), reverse=True):
        network = network.without(i)
    return network


def difference(actual: Any, expected: Any) -> float:
    """Relative difference in the 2-norm; infinite when a shape differs or something is not finite."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    if actual.shape != expected.shape or not np.isfinite(actual).all():
        return float("inf")
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30))


def compare(request: str) -> tuple[str, str]:
    """("passed" | "wrong" | "error", detail)"""
    network = network_of(request)
    try:
        model = Model(network).eval()
        x = torch.randn(network.shape, generator=torch.Generator().manual_seed(network.seed))
        with torch.no_grad():
            expected = model(x).numpy()
        found = difference(lhcc.compile(model, inputs=x)(x.numpy()), expected)
    except Exception:
        return "error", traceback.format_exc()[-1500:]
    return ("passed", "") if found <= TOLERANCE else ("wrong", f"relative difference {found:.2e}")


if __name__ == "__main__":
    serve(compare)
