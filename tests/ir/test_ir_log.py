from __future__ import annotations

from lhcc.ir.log import LayerRecord, Reason, in_order


def test_reasons_follow_the_layers_as_they_run() -> None:
    layers = [LayerRecord(name, "conv2d", f"kernel_{name}") for name in ("first", "second", "third")]
    said = [Reason(layer, name, "") for name, layer in [("a", "third"), ("b", "gone"), ("c", "first"), ("d", "third")]]
    assert [reason.pass_name for reason in in_order(said, layers)] == ["c", "a", "d", "b"]
