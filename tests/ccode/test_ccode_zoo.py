"""The small networks of the zoo as C, under sanitizers, against the reference."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
import lhcc  # noqa: E402
from tests.ccode.conftest import SANITIZED, make  # noqa: E402
from tests.zoo import ZOO  # noqa: E402


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("name", [name for name, entry in ZOO.items() if not entry.slow])
def test_small_networks(name: str, tmp_path: Path) -> None:
    entry = ZOO[name]
    lhcc.emit(entry.model(), tmp_path / "net", inputs=torch.zeros(1, *entry.shape), name="net", weights="binary")
    make(tmp_path / "net", tmp_path, SANITIZED)
