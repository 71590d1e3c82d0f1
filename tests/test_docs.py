"""The commands that README and docs show do run, in a folder that has the repository's files.

A fenced block runs when a comment <!-- test: sh -->, <!-- test: python --> or <!-- test: sh slow --> stands before it;
every block of shell or Python must have one, or be one of the few that are tested elsewhere.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- test: (?P<how>[a-z ]+) -->\n)?```(?P<language>sh|python)\n(?P<code>.*?)```", re.DOTALL)
# make demo and make test would run the tests from within the tests.
ELSEWHERE = ("make demo", "make test")


@dataclass(frozen=True)
class Block:
    page: str
    number: int
    how: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


def blocks() -> list[Block]:
    return [
        Block(page.name, i, match["how"] or "", match["code"])
        for page in PAGES
        if page.exists()
        for i, match in enumerate(BLOCK.finditer(page.read_text()), 1)
    ]


RUNNABLE = [pytest.param(b, id=str(b), marks=pytest.mark.slow if "slow" in b.how else ()) for b in blocks() if b.how]


def test_every_block_is_run_or_known() -> None:
    for block in blocks():
        assert block.how or any(command in block.code for command in ELSEWHERE), f"{block} is not run by a test"


@pytest.mark.parametrize("block", RUNNABLE)
def test_block(block: Block, tmp_path: Path) -> None:
    for name in ("examples", "tests", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    binaries = Path(sys.executable).parent
    if block.how.startswith("sh") and "lhcc " in block.code and not (binaries / "lhcc").exists():
        pytest.skip("the command lhcc is not installed beside this Python")
    command = ["sh", "-euc", block.code] if block.how.startswith("sh") else [sys.executable, "-c", block.code]
    if "torch" in block.code:
        pytest.importorskip("torch")
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "benchmarks" / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
