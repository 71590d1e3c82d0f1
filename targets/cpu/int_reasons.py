"""Why an integer layer is computed as it is: the figures behind the choice, for `lhcc why`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lhcc.ir.log import Reason
from lhcc.targets.cpu.int_choice import SumChoice

SHOWN = 2  # choices that were not taken


def of_sums(
    layer: str, storage: str, wider: str, cost: Mapping[str, Any], choices: Sequence[SumChoice]
) -> list[Reason]:
    """`wider`: why the layer's input is not stored in fewer bits; `cost`: what the profile says of the layer."""
    said = [("store_maps", f"{storage}, not narrower: {wider}")] if wider else []
    if cost["macs"]:
        least = round(cost["density"] * cost["macs"])
        kept = f"{cost['macs_kept']:,} multiply-adds in whole tiles, none beyond the border"
        said.append(("pack_tiles", f"{kept}, of {cost['macs']:,}, {least:,} with weights that are not zero"))
    best, *others = choices
    said.append(("choose_sums", f"chosen {best}"))
    said += [("choose_sums", f"instead of {other}") for other in others[:SHOWN]]
    return [Reason(layer, name, text) for name, text in said]


def of_additions(layer: str, graphs: Any) -> list[Reason]:
    return [Reason(layer, "share_additions", str(graphs))]
