from __future__ import annotations

from typing import get_args

import pytest
import torch
from noise_sources import source
from scipy import stats

from ddpm_cli.diffusion.objectives.timestep_draws import TimestepDraws, draw_timesteps

KINDS = get_args(TimestepDraws)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_steps_of_the_schedule_and_repeat_with_the_seed(kind: TimestepDraws) -> None:
    t = draw_timesteps(kind, 4096, 10, source(3), "cpu")
    assert t.dtype == torch.int64
    assert t.shape == (4096,)
    assert t.unique().tolist() == list(range(10))
    assert torch.equal(t, draw_timesteps(kind, 4096, 10, source(3), "cpu"))
    assert not torch.equal(t, draw_timesteps(kind, 4096, 10, source(4), "cpu"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("position", [0, 5])
def test_each_position_of_a_batch_is_uniform_over_all_steps(kind: TimestepDraws, position: int) -> None:
    """Chi-square over 10 steps and 5,000 batches; a false alarm would have a probability of 1e-6 under a new seed."""
    generator = source(11)
    draws = torch.stack([draw_timesteps(kind, 8, 10, generator, "cpu")[position] for _ in range(5000)])
    assert stats.chisquare(torch.bincount(draws, minlength=10).numpy()).pvalue > 1e-6


def test_a_stratified_batch_is_spread_evenly() -> None:
    for seed in range(50):
        t = draw_timesteps("stratified", 20, 1000, source(seed), "cpu").sort().values
        gaps = torch.diff(t, append=t[:1] + 1000)
        assert gaps.min() >= 49
        assert gaps.max() <= 51


def test_uniform_draws_are_not_spread_evenly() -> None:
    t = draw_timesteps("uniform", 20, 1000, source(0), "cpu").sort().values
    assert torch.diff(t).min() < 40
