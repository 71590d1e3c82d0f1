"""A few random ONNX models against ONNX Runtime; `python -m tests.fuzz.graphs onnx` runs as many as you like."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")  # for the tolerance, which is that of networks of PyTorch
from tests.fuzz.onnx_graphs import grow, spelled, steps_of  # noqa: E402
from tests.fuzz.onnx_worker import answers, compare  # noqa: E402

FINE = ("passed", "unsupported", "unjudged")


SAME_WITH_SMALL_KERNELS = (129, 180)  # transposed convolutions whose kernel is below their stride


@pytest.mark.parametrize("seed", [*range(10), *SAME_WITH_SMALL_KERNELS])
def test_random_model(seed: int) -> None:
    kind, detail = compare(str(seed))
    assert kind in FINE, f"seed {seed}: {detail}\n{spelled(grow(str(seed)))}"


def test_models_depend_on_the_seed_alone_and_lose_steps_when_asked() -> None:
    assert grow("3") == grow("3") != grow("4")
    longest = max(range(20), key=steps_of)
    every = ",".join(map(str, range(steps_of(longest) - 1)))
    assert 0 < len(grow(f"{longest}:{every}").graph.node) < len(grow(str(longest)).graph.node)


def test_models_are_of_many_operators() -> None:
    seen = Counter(node.op_type for seed in range(200) for node in grow(str(seed)).graph.node)
    assert len(seen) > 60 and seen["Conv"] > 50


def test_a_wrong_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import lhcc

    def wrong(model: object) -> object:
        return lambda x: tuple(1.01 * y for y in next(answers(model, x)))

    seed = next(s for s in range(50) if compare(str(s))[0] == "passed")
    monkeypatch.setattr(lhcc, "compile", wrong)
    assert compare(str(seed))[0] == "wrong"
