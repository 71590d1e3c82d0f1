"""From trained float weights to dyadic ones: exact per-kernel optima, budgets, correction by calibration data."""

from __future__ import annotations

from lhcc.approximation.approximate import Approximated, approximate
from lhcc.approximation.budget import BudgetError
from lhcc.approximation.functions import PiecewiseLinear, piecewise_linear
from lhcc.approximation.report import Report
from lhcc.approximation.sets import DyadicSet, SetError, named_set

__all__ = [
    "Approximated",
    "BudgetError",
    "DyadicSet",
    "PiecewiseLinear",
    "Report",
    "SetError",
    "approximate",
    "named_set",
    "piecewise_linear",
]
