"""Recognition is plain numpy, and training without PyTorch is refused with the way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(code: str) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_inspection_needs_numpy_only() -> None:
    code = "import sys, lhcc.inspection; print([name for name in ('tvm', 'torch', 'onnx') if name in sys.modules])"
    assert run(code) == "[]\n"


def test_without_torch_the_way_out_is_named() -> None:
    said = run("import sys; sys.modules['torch'] = None; import lhcc.nn")
    assert "lhcc.nn trains with PyTorch, which is not installed" in said
    assert "pip install 'lhcc[torch]'" in said
