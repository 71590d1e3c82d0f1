"""Writes one random network per request as C, builds it under sanitizers and runs the test that comes with it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import traceback
from pathlib import Path

import torch

import lhcc
from tests.fuzz.networks import Model
from tests.fuzz.worker import network_of
from tests.isolated import serve

FLAGS = "CFLAGS=-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
WARNINGS = "WARNINGS=-Wall -Wextra -Werror -Wno-psabi"


def compare(request: str) -> tuple[str, str]:
    """("passed" | "wrong" | "error", detail); the right answer is the reference's, not that of a kernel."""
    network = network_of(request)
    folder = Path(tempfile.mkdtemp(prefix="lhcc-fuzz-"))
    try:
        x = torch.randn(network.shape, generator=torch.Generator().manual_seed(network.seed))
        lhcc.emit(Model(network).eval(), folder / "net", inputs=x, name="net")
        command = ["make", "-s", "-C", str(folder / "net"), FLAGS, WARNINGS, "test"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return "passed", ""
        kind = "wrong" if "FAILED" in done.stdout else "error"
        return kind, (done.stdout + done.stderr)[-1500:]
    except Exception:
        return "error", traceback.format_exc()[-1500:]
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    serve(compare)
