"""Crashes and endless loops of a worker process are answers; time that the machine spends elsewhere is not counted."""

from __future__ import annotations

import os
import time

from tests.isolated import ask_all, serve


def answer(request: str) -> tuple[str, str]:
    if request == "crash":
        os.abort()
    while request == "loop":
        pass
    if request == "wait":
        time.sleep(0.5)
    return "passed", request


def test_each_request_is_answered() -> None:
    requests = ["first", "crash", "loop", "wait", "last"]
    answers = ask_all("tests.test_isolated", requests, workers=1, limit_s=0.3)
    assert answers == {
        "first": ("passed", "first"),
        "crash": ("crash", "exit code -6"),
        "loop": ("timeout", "no answer within 0.3 s of processor time"),
        "wait": ("passed", "wait"),
        "last": ("passed", "last"),
    }


if __name__ == "__main__":
    serve(answer)
