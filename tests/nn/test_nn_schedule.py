"""The density loss and the two training stages, against numbers worked out by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from lhcc.errors import ModelError  # noqa: E402
from lhcc.nn import LHConv2d, ShapeSchedule, density_loss, freeze_shapes, network_density  # noqa: E402

pytestmark = pytest.mark.torch


def layer_with_effects(effects: list[list[float]], inputs: int, outputs: int, stride: int = 1) -> LHConv2d:
    values = torch.tensor(effects)[:, :, None, None]
    layer = LHConv2d(
        inputs,
        outputs,
        1,
        stride=stride,
        bias=False,
        group_in=inputs // values.shape[1],
        group_out=outputs // values.shape[0],
    )
    with torch.no_grad():
        layer.effects.copy_(values)
    return layer


def two_layers() -> nn.Sequential:
    """On 4 x 4 images: 8 weights at 16 pixels, 4 of them kept; 16 weights at 4 pixels, 4 of them kept."""
    return nn.Sequential(
        layer_with_effects([[0.5, -0.5]], inputs=2, outputs=4),
        layer_with_effects([[0.5, -0.5], [-0.5, -2.0]], inputs=4, outputs=4, stride=2),
    )


def test_density_loss_by_hand() -> None:
    model = two_layers()
    model(torch.zeros(1, 2, 4, 4))
    kept, total = 4 + 4, 8 + 16
    kept_macs, macs = 4 * 16 + 4 * 4, 8 * 16 + 16 * 4
    expected = 0.99 * abs(0.1 - kept / total) + 0.01 * kept_macs / macs
    assert density_loss(model, 0.1).item() == pytest.approx(expected)
    assert network_density(model) == pytest.approx(kept / total)


def test_density_loss_gradient_by_hand() -> None:
    model = two_layers()
    model(torch.zeros(1, 2, 4, 4))
    density_loss(model, 0.1).backward()
    # Above the target, every weight of a block pulls with 0.99 / 24, and with 0.01 * pixels / all multiply-adds.
    second = 4 * (0.99 / 24 + 0.01 * 4 / 192)
    assert model[1].effects.grad.flatten().tolist() == pytest.approx([second, second, second, 0.1 * second])
    first = 4 * (0.99 / 24 + 0.01 * 16 / 192)
    assert model[0].effects.grad.flatten().tolist() == pytest.approx([first, first])


def test_below_the_target_the_loss_pulls_upwards() -> None:
    model = two_layers()
    model(torch.zeros(1, 2, 4, 4))
    density_loss(model, 0.9).backward()
    assert (model[1].effects.grad < 0).all()


def test_density_loss_wants_a_forward_pass_and_a_masked_layer() -> None:
    with pytest.raises(ModelError, match="layer '0' has not run yet"):
        density_loss(two_layers(), 0.1)
    with pytest.raises(ModelError, match="no LHConv2d"):
        density_loss(nn.Sequential(nn.Conv2d(1, 1, 1)), 0.1)
    with pytest.raises(ModelError, match=r"density target 1\.5"):
        density_loss(two_layers(), 1.5)


def test_the_schedule_by_hand() -> None:
    model = two_layers()
    schedule = ShapeSchedule(model, target=0.1, coarse_epochs=6, warmup=4, peak=4.0)
    largest = 0.01 + 0.99 * 0.9
    weights, enabled = [], []
    for _ in range(8):
        weights.append(schedule.weight)
        enabled.append(sum(int(layer.enabled.sum()) for layer in model))
        schedule.step(2.0 if schedule.epoch == 0 else 99.0)  # only the first epoch's loss counts
    expected = [0.0, 2.0, 4.0, 6.0, 8.0, 8.0, 0.0, 0.0]
    assert weights == pytest.approx([value / largest for value in expected])
    assert enabled[0] == 0
    assert enabled[4:] == [8] * 4
    assert schedule.stage == "fine"


def test_masks_are_switched_on_per_channel_with_rising_probability() -> None:
    layer = LHConv2d(4, 4000, 1)
    schedule = ShapeSchedule(nn.Sequential(layer), target=0.5, coarse_epochs=10, warmup=10, seed=3)
    shares = []
    for _ in range(11):
        shares.append(float(layer.enabled.float().mean()))
        schedule.step(1.0)
    assert shares == pytest.approx([epoch / 10 for epoch in range(11)], abs=0.03)
    assert shares[0] == 0
    assert shares[-1] == 1


def test_an_interrupted_schedule_goes_on_where_it_was() -> None:
    def layers() -> nn.Sequential:
        return nn.Sequential(LHConv2d(4, 64, 1))

    whole, resumed = layers(), layers()
    schedule = ShapeSchedule(whole, target=0.5, coarse_epochs=6, warmup=5, seed=1)
    for _ in range(2):
        schedule.step(2.0)
    again = ShapeSchedule(resumed, target=0.5, coarse_epochs=6, warmup=5, seed=99)
    resumed.load_state_dict(whole.state_dict())
    again.load_state_dict(schedule.state_dict())
    for _ in range(4):
        assert again.weight == schedule.weight
        assert torch.equal(whole[0].enabled, resumed[0].enabled)
        schedule.step(7.0)
        again.step(7.0)
    assert again.stage == "fine"
    assert not resumed[0].effects.requires_grad


def test_the_penalty_is_the_weighted_density_loss() -> None:
    model = two_layers()
    schedule = ShapeSchedule(model, target=0.1, coarse_epochs=4, warmup=1)
    assert float(schedule.penalty()) == 0
    schedule.step(3.0)
    model(torch.zeros(1, 2, 4, 4))
    assert schedule.penalty().item() == pytest.approx(schedule.weight * density_loss(model, 0.1).item())


def test_frozen_shapes_do_not_move_even_with_momentum() -> None:
    model = two_layers()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for frozen in (False, True):
        if frozen:
            freeze_shapes(model)
        before = model[0].effects.clone()
        optimizer.zero_grad(set_to_none=False)
        loss = model(torch.ones(1, 2, 4, 4)).square().sum()
        loss.backward()
        optimizer.step()
        assert torch.equal(before, model[0].effects) == frozen


def test_a_fine_stage_follows_the_coarse_one() -> None:
    model = two_layers()
    schedule = ShapeSchedule(model, target=0.1, coarse_epochs=1, warmup=1)
    assert model[0].effects.requires_grad
    schedule.step(1.0)
    assert not model[0].effects.requires_grad
    assert bool(model[0].enabled.all())


def test_training_reaches_the_target_density() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(LHConv2d(16, 16, 3, padding=1, group_in=2, group_out=2), nn.ReLU(), nn.Conv2d(16, 1, 1))
    schedule = ShapeSchedule(model, target=0.2, coarse_epochs=30, warmup=10)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    x = torch.randn(32, 16, 6, 6)
    y = x[:, :1] - x[:, 3:4]
    for _ in range(30):
        losses = []
        for _ in range(5):
            task = nn.functional.mse_loss(model(x), y)
            losses.append(task.item())
            optimizer.zero_grad()
            (task + schedule.penalty()).backward()
            optimizer.step()
        schedule.step(sum(losses) / len(losses))
    assert network_density(model) == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("arguments", [{"target": 0.0}, {"target": 0.5, "warmup": 0}, {"target": 0.5, "warmup": 200}])
def test_schedule_mistakes(arguments: dict[str, float]) -> None:
    with pytest.raises(ModelError):
        ShapeSchedule(two_layers(), **arguments)  # type: ignore[arg-type]
