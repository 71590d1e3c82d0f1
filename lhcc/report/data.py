"""Profiles as JSON and CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lhcc.runtime.profile import Profile


def to_dict(profile: Profile) -> dict[str, Any]:
    """All but the single samples."""
    data = asdict(profile)
    del data["samples"]
    return {**data, "sum_us": profile.sum_us}


def to_csv(profile: Profile) -> str:
    from lhcc.runtime.profile import LayerTime

    columns = [f.name for f in fields(LayerTime)]
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for layer in profile.layers:
        writer.writerow(asdict(layer))
    return out.getvalue()
