"""Constant matrix-vector products as graphs of shared additions: the cheapest form of a layer with dyadic weights."""

from __future__ import annotations

from lhcc.encodings.adders.graph import Adder, AdderGraph, Output, width
from lhcc.encodings.adders.network import SumNetwork, signed_digits
from lhcc.encodings.adders.solve import AdderError, solve

__all__ = ["Adder", "AdderError", "AdderGraph", "Output", "SumNetwork", "signed_digits", "solve", "width"]
