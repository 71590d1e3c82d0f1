"""Finds the structure in the zeros of trained weights, and reports it per layer."""

from __future__ import annotations

from lhcc.inspection.recognise import recognise
from lhcc.inspection.structure import Kind, Structure

__all__ = ["Kind", "Structure", "recognise"]
