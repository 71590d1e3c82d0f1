"""`make demo`: compiles the shipped digit networks, checks their accuracy, prints where the time goes."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

DIGITS = Path(__file__).resolve().parent / "digits"

if __name__ == "__main__":
    sys.path.insert(0, str(DIGITS))  # as if the script had been started where it lies
    runpy.run_path(str(DIGITS / "demo.py"), run_name="__main__")
