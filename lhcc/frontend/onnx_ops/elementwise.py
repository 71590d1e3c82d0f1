"""Element by element: activations and arithmetic for which TVM's converters are not used."""

from __future__ import annotations
