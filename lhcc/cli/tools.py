"""Commands about lhcc itself: what it can compile for, what it found on this machine."""

from __future__ import annotations

import argparse

from lhcc.cli.options import show
from lhcc.errors import LhccError


def targets(options: argparse.Namespace) -> None:
    from lhcc.report.targets import Targets

    show(options, Targets())


def doctor(options: argparse.Namespace) -> None:
    from lhcc.doctor import diagnose

    diagnosis = diagnose()
    show(options, diagnosis)
    if diagnosis.missing:
        first = diagnosis.missing[0]
        raise LhccError(f"{first.name} is missing: it {first.purpose}", first.install)
