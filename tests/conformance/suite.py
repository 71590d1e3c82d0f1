"""ONNX's backend suite through lhcc, in worker processes: a crash or an endless loop is one test's outcome.

`python -m tests.conformance.suite [--filter TEXT] [--write]` prints the counts and everything that did neither pass nor
end as a clear "unsupported"; --write updates counts.json.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.conformance.worker import cases
from tests.isolated import Answer, ask_all

COUNTS = Path(__file__).with_name("counts.json")
GOOD = ("passed", "unsupported")


def counts(outcomes: Mapping[str, Answer]) -> dict[str, dict[str, int]]:
    """Per kind of test, how many ended in which way."""
    table: dict[str, Counter[str]] = {}
    for name, (kind, _) in outcomes.items():
        table.setdefault(name.split("/")[0], Counter())[kind] += 1
    return {group: dict(sorted(table[group].items())) for group in sorted(table)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="", help="only tests whose name matches this regular expression")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all", action="store_true", help="print the reasons of the unsupported ones as well")
    parser.add_argument("--write", action="store_true", help="write counts.json")
    options = parser.parse_args()

    def watch(name: str, answer: Answer) -> None:
        if answer[0] not in GOOD or (options.all and answer[0] == "unsupported"):
            print(f"{answer[0]} {name}: {answer[1]}", flush=True)

    names = [name for name in cases() if re.search(options.filter, name)]
    outcomes = ask_all("tests.conformance.worker", names, options.workers, watch=watch)
    print(json.dumps(counts(outcomes), indent=1))
    if options.write:
        COUNTS.write_text(json.dumps(counts(outcomes), indent=1) + "\n")


if __name__ == "__main__":
    main()
