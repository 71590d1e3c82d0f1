"""Finds the structure in the zeros of trained weights, and reports it per layer."""

from __future__ import annotations

from lhcc.inspection.recognise import recognise
from lhcc.inspection.report import LayerReport, Report
from lhcc.inspection.structure import Kind, Structure
from lhcc.inspection.walk import inspect_module

__all__ = ["Kind", "LayerReport", "Report", "Structure", "inspect_module", "recognise"]
