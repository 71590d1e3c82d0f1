"""A few random networks against PyTorch; `python -m tests.fuzz.graphs torch` runs as many as you like."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
from tests.fuzz.networks import draw  # noqa: E402
from tests.fuzz.worker import compare, network_of  # noqa: E402

pytestmark = pytest.mark.torch


@pytest.mark.parametrize("seed", range(15))
def test_random_network(seed: int) -> None:
    kind, detail = compare(str(seed))
    assert kind == "passed", f"seed {seed}: {detail}\n{network_of(str(seed))}"


def test_networks_depend_on_the_seed_alone() -> None:
    assert draw(3) == draw(3) != draw(4)
    assert len(network_of("3:0").steps) == len(draw(3).steps) - 1


def test_a_wrong_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import lhcc

    monkeypatch.setattr(lhcc, "compile", lambda model, inputs: lambda x: 1.01 * model(inputs).detach().numpy())
    assert compare("0")[0] == "wrong"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_network_as_c(seed: int) -> None:
    from tests.fuzz.c_worker import compare as compare_c

    kind, detail = compare_c(str(seed))
    assert kind == "passed", f"seed {seed}: {detail}\n{network_of(str(seed))}"
