"""Power-function averages: their exponents, their profiles, and any of them out of two that were kept."""

from __future__ import annotations

import math
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpm_cli.training.averages.ema import PowerEma, power_weight
from ddpm_cli.training.averages.power import Profile, combination, gamma_of_width, inner_products, misfit
from ddpm_cli.training.averages.snapshots import count_snapshots, is_snapshot_step

STEPS = 1500
KEPT = (0.05, 0.1)


def course() -> Tensor:
    """Weights that wander from where they began, ever more slowly, [STEPS, 50]."""
    draws = torch.Generator().manual_seed(0)
    slower = torch.linspace(1.0, 0.05, STEPS)[:, None]
    start = 0.1 * torch.randn(50, generator=draws)
    return start + (0.01 * slower * torch.randn(STEPS, 50, generator=draws)).cumsum(0)


@cache
def tracked(width: float) -> dict[int, np.ndarray]:
    """An average that follows the course, after each step at which snapshots are kept, and the last."""
    model = nn.Linear(50, 1, bias=False)
    average, taken, found = PowerEma(model, width), torch.tensor(True), {}
    for step, now in enumerate(course(), 1):
        average.update([now[None]], taken)
        if is_snapshot_step(step) or step == STEPS:
            found[step] = next(average.model.parameters()).numpy()[0].copy()
    return found


@pytest.mark.parametrize("width", [0.001, 0.05, 0.1, 0.2, 0.28])
def test_the_exponent_has_the_width(width: float) -> None:
    """By integration of the profile, not by the formula that was solved."""
    gamma = gamma_of_width(width)
    tau = np.linspace(0, 1, 200_001)[1:]
    density = (gamma + 1) * tau**gamma
    mean = np.trapezoid(density * tau, tau)
    assert math.sqrt(np.trapezoid(density * (tau - mean) ** 2, tau)) == pytest.approx(width, rel=1e-4)


def test_the_first_update_takes_the_place_of_the_initial_weights_and_steps_not_taken_move_nothing() -> None:
    model = nn.Linear(2, 1, bias=False)
    average = PowerEma(model, 0.1)
    new = torch.tensor([[3.0, -4.0]])
    average.update([new], torch.tensor(True))
    first = next(average.model.parameters()).clone()
    torch.testing.assert_close(first, new)
    average.update([new + 1], torch.tensor(False))
    assert torch.equal(next(average.model.parameters()), first)
    assert int(average.updates) == 1


def test_an_average_holds_each_step_by_the_share_of_its_profile() -> None:
    """Of T steps step tau has the share (tau**(gamma + 1) - (tau - 1)**(gamma + 1)) / T**(gamma + 1)."""
    gamma, T = gamma_of_width(0.1), 200
    kept = [float(power_weight(torch.tensor(n), gamma)) for n in range(T)]
    shares = [kept[tau - 1] * math.prod(1 - share for share in kept[tau:]) for tau in range(1, T + 1)]
    expected = [((tau / T) ** (gamma + 1) - ((tau - 1) / T) ** (gamma + 1)) for tau in range(1, T + 1)]
    assert shares == pytest.approx(expected, abs=1e-6)


def test_inner_products_are_integrals() -> None:
    tau = np.linspace(0, 10, 200_001)[1:]
    for (t_a, gamma_a), (t_b, gamma_b) in [((4, 3), (10, 7)), ((10, 7), (4, 3)), ((10, 0.2), (10, 17))]:
        a, b = (np.where(tau <= t, (gamma + 1) * (tau / t) ** gamma / t, 0) for t, gamma in ((t_a, gamma_a), (t_b, gamma_b)))
        assert float(inner_products(t_a, gamma_a, t_b, gamma_b)) == pytest.approx(np.trapezoid(a * b, tau), rel=1e-4)


@pytest.mark.parametrize("width", [0.03, 0.04, 0.07, 0.15, 0.2, 0.25])
def test_an_average_made_afterwards_is_one_that_was_tracked(width: float) -> None:
    """To 1e-3 of the length of the weights, from snapshots as training keeps them."""
    kept = [tracked(of) for of in KEPT]
    profiles = [Profile(step, of) for step in kept[0] for of in KEPT]
    stored = np.stack([one[step].astype(np.float64) for step in kept[0] for one in kept])
    goal = Profile(STEPS, width)
    shares = combination(profiles, goal)
    wanted = tracked(width)[STEPS]
    assert np.linalg.norm(shares @ stored - wanted) / np.linalg.norm(wanted) < 1e-3
    assert misfit(profiles, shares, goal) < 0.06


def test_one_that_was_kept_is_itself() -> None:
    profiles = [Profile(step, width) for step in (500, 1000, 1500) for width in KEPT]
    shares = combination(profiles, Profile(1000, 0.1))
    assert shares == pytest.approx([0, 0, 0, 1, 0, 0], abs=1e-9)
    assert misfit(profiles, shares, Profile(1000, 0.1)) < 1e-6


def test_too_few_snapshots_are_told_by_the_misfit() -> None:
    profiles = [Profile(step, width) for step in (1000, 2000, 3000) for width in KEPT]
    goal = Profile(3000, 0.2)
    assert misfit(profiles, combination(profiles, goal), goal) > 0.1


def test_it_agrees_with_ema_pytorch(tmp_path: Path) -> None:
    """Its PostHocEMA keeps float16 and minimises without holding the sum of the shares at 1: the two agree to that."""
    post_hoc = pytest.importorskip("ema_pytorch").PostHocEMA
    weights = course()[:400]
    model = nn.Linear(50, 1, bias=False)
    theirs = post_hoc(
        model,
        sigma_rels=KEPT,
        update_every=1,
        checkpoint_every_num_steps=20,
        checkpoint_folder=str(tmp_path),
        checkpoint_dtype=torch.float32,
    )
    ours = [PowerEma(model, width) for width in KEPT]
    profiles, stored = [], []
    for step, now in enumerate(weights, 1):
        with torch.no_grad():
            model.weight.copy_(now[None])
        theirs.update()
        for average in ours:
            average.update(model.parameters(), torch.tensor(True))
            if step % 20 == 0:
                profiles.append(Profile(step, average.width))
                stored.append(next(average.model.parameters()).numpy()[0].astype(np.float64))
    for width in (0.07, 0.12):
        made = combination(profiles, Profile(400, width)) @ np.stack(stored)
        other = theirs.synthesize_ema_model(sigma_rel=width, step=400).ema_model.weight.detach().numpy()[0]
        assert np.linalg.norm(made - other) / np.linalg.norm(other) < 2e-3


def test_snapshots_lie_at_steps_that_grow_by_a_tenth() -> None:
    steps = [step for step in range(1, 101) if is_snapshot_step(step)]
    assert steps[:5] == [8, 9, 10, 11, 13]
    assert all(later == -(-earlier * 11 // 10) for earlier, later in pairwise(steps))
    assert count_snapshots(100) == len(steps)
    assert count_snapshots(7) == 0
