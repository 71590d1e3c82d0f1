"""Reports on whole networks: which weights are found, what they cost, and how they are drawn."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray

relax = pytest.importorskip("tvm.relax")

from lhcc.inspection import Kind, inspect_module, recognise  # noqa: E402
from lhcc.inspection.picture import frequent_shapes, svg_histogram, text_histogram  # noqa: E402
from lhcc.inspection.shapes import free_mask  # noqa: E402


def module(shape: tuple[int, ...], *operators: Any) -> Any:
    """A chain of operators, each a function of its input; a pair adds the name of the layer."""
    x = relax.Var("x", relax.TensorType(shape, "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            value: Any = x
            for name, operator in operators:
                value = builder.emit(operator(value), name)
            output = builder.emit_output(value)
        builder.emit_func_output(output)
    return builder.get()


def constant(array: NDArray[Any]) -> Any:
    return relax.const(array.astype(np.float32), "float32")


def lhc_weight(random: np.random.Generator, outputs: int, inputs: int) -> NDArray[Any]:
    effects = 0.3 - random.random((-(-outputs // 8), -(-inputs // 8), 3, 3))
    return random.standard_normal((outputs, inputs, 3, 3)) * free_mask(effects, 8, 8, inputs, outputs)


def test_layers_are_found_named_and_counted() -> None:
    random = np.random.default_rng(0)
    first, depthwise = random.standard_normal((8, 3, 3, 3)), random.standard_normal((8, 1, 3, 3))
    shaped, head = lhc_weight(random, 32, 8), random.standard_normal((32, 10))
    report = inspect_module(
        module(
            (2, 3, 9, 9),
            ("stem", lambda x: relax.op.nn.conv2d(x, constant(first), strides=2)),
            ("stem", lambda x: relax.op.add(x, constant(np.ones((1, 8, 1, 1))))),
            ("depth", lambda x: relax.op.nn.conv2d(x, constant(depthwise), padding=1, groups=8)),
            ("body", lambda x: relax.op.nn.conv2d(x, constant(shaped), padding=1)),
            ("pool", lambda x: relax.op.mean(x, [2, 3])),
            ("head", lambda x: relax.op.matmul(x, constant(head))),
        )
    )
    assert [layer.name for layer in report.layers] == ["stem", "depth", "body", "head"]
    assert [layer.structure.kind for layer in report.layers] == [Kind.DENSE, Kind.DEPTHWISE, Kind.LHC_FREE, Kind.DENSE]
    assert [layer.macs for layer in report.layers] == [2 * 16 * 8 * 27, 2 * 16 * 8 * 9, 2 * 16 * 32 * 72, 2 * 320]
    kept = int(np.sum(shaped != 0))
    assert report.layers[2].macs_kept == 2 * 16 * kept
    assert report.layers[2].weights_kept == kept
    assert report.macs == sum(layer.macs for layer in report.layers)


def test_transposed_convolutions_and_products_are_turned() -> None:
    random = np.random.default_rng(1)
    weight = random.standard_normal((4, 6, 2, 2))
    weight[:, 2] = 0  # an output that is never written
    product = random.standard_normal((12, 15))
    product[3] = 0  # an input that is never read
    report = inspect_module(
        module(
            (1, 4, 5, 5),
            ("up", lambda x: relax.op.nn.conv2d_transpose(x, constant(weight), strides=2)),
            ("cut", lambda x: relax.op.mean(x, [2, 3])),
            ("twice", lambda x: relax.op.concat([x, x], axis=1)),
            ("fc", lambda x: relax.op.matmul(x, constant(product))),
        )
    )
    up, fc = report.layers
    assert up.weight_shape == (6, 4, 2, 2)
    assert up.macs == 25 * 4 * 6 * 4
    assert (up.structure.kind, up.structure.constant_outputs) == (Kind.FILTERS, 1)
    assert fc.weight_shape == (15, 12, 1, 1)
    assert (fc.structure.kind, fc.structure.unused_inputs) == (Kind.CHANNELS, 1)


def test_a_grouped_transposed_convolution() -> None:
    weight = np.random.default_rng(2).standard_normal((4, 3, 2, 2))
    report = inspect_module(
        module((1, 4, 5, 5), ("up", lambda x: relax.op.nn.conv2d_transpose(x, constant(weight), groups=2)))
    )
    assert report.layers[0].weight_shape == (6, 2, 2, 2)
    assert report.layers[0].structure.kind == Kind.GROUPED
    assert report.layers[0].macs == 25 * 4 * 3 * 4


def test_products_of_two_activations_have_no_weight() -> None:
    report = inspect_module(module((4, 4), ("attention", lambda x: relax.op.matmul(x, x))))
    assert report.layers == []
    assert report.macs == 0
    assert "total" in str(report)


def test_a_weight_that_is_transposed_in_the_graph() -> None:
    weight = np.random.default_rng(3).standard_normal((7, 4))
    x = relax.Var("x", relax.TensorType((2, 4), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            turned = builder.emit(relax.op.permute_dims(constant(weight)), "turned")
            output = builder.emit_output(builder.emit(relax.op.matmul(x, turned), "fc"))
        builder.emit_func_output(output)
    (layer,) = inspect_module(builder.get()).layers
    assert (layer.weight_shape, layer.macs) == ((7, 4, 1, 1), 2 * 28)


def test_table_json_and_pictures() -> None:
    weight = lhc_weight(np.random.default_rng(4), 16, 16)
    convolution = ("conv", lambda x: relax.op.nn.conv2d(x, constant(weight)))
    report = inspect_module(module((1, 16, 5, 5), convolution))
    text = str(report)
    assert "lhc-free" in text
    assert "8x8" in text
    assert f"{report.layers[0].macs_kept:,}" in text
    document = json.loads(json.dumps(report.json()))
    assert document["layers"][0]["kind"] == "lhc-free"
    assert document["layers"][0]["block"] == [8, 8]
    assert sum(document["layers"][0]["shapes"].values()) == 256
    assert document["total"]["macs_kept"] == report.macs_kept
    (picture,) = report.svg().values()
    assert ElementTree.fromstring(picture).tag.endswith("svg")


def test_shapes_drawn_as_text() -> None:
    weight = np.ones((4, 1, 3, 3))
    weight[:3, :, 0] = weight[:3, :, :, 2] = 0
    found = recognise(weight)
    assert frequent_shapes(found) == [(0b011011000, 0.75), (0b111111111, 0.25)]
    assert text_histogram(found, indent="").splitlines() == [
        "···    ■■■",
        "■■·    ■■■",
        "■■·    ■■■",
        "75%    25%",
    ]
    assert text_histogram(found, shown=1, indent="").endswith("75%    and 1 more")


def test_names_are_escaped_in_pictures() -> None:
    picture = svg_histogram('a<b>&"c"', recognise(np.ones((2, 2, 3, 3))))
    assert ElementTree.fromstring(picture) is not None
