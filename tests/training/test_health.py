"""What counts as trouble, and from which step on."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.runs.checkpoint_state import check_state
from ddpm_cli.training.health import MAX_NON_FINITE_STEPS, MAX_SKIPPED_STEPS, Health


def after(losses: list[float]) -> Health:
    health = Health()
    for step, loss in enumerate(losses, 1):
        health.judge(step, loss, taken=True, scaled=False)
    return health


def test_a_leap_is_a_spike_and_opens_trouble_until_the_loss_is_back() -> None:
    health = after([1.0] * 60)
    assert health.judge(61, 10.0, taken=True, scaled=False) == "spike"
    assert health.last_good_step(61) == 59  # its weights made the loss of step 60
    for step in range(62, 71):
        assert health.judge(step, 1.1, taken=True, scaled=False) is None
        assert health.last_good_step(step) == 59
    assert health.judge(71, 1.1, taken=True, scaled=False) is None
    assert health.last_good_step(71) == 70


def test_a_loss_that_stays_high_is_no_end_of_trouble() -> None:
    health = after([1.0] * 100)
    kinds = [health.judge(step, 10.0, taken=True, scaled=False) for step in range(101, 500)]
    assert kinds.count("spike") == 1  # a plateau is told of once
    assert health.last_good_step(499) == 99


def test_the_first_losses_are_never_spikes() -> None:
    assert after([1.0] * 49).judge(50, 1e9, taken=True, scaled=False) is None


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0, 2.0])
def test_losses_that_vary_are_no_spikes_and_a_thousandfold_leap_is_one(spread: float) -> None:
    """Log-normal losses, as from a batch of 128 of L_simple to one of 8 of L_vlb; 2 of 5,000 may be spikes; the seed is fixed."""
    losses = np.exp(np.random.default_rng(0).normal(0, spread, 5000)).tolist()
    health = Health()
    assert sum(health.judge(step, loss, taken=True, scaled=False) == "spike" for step, loss in enumerate(losses, 1)) <= 2
    assert health.judge(5001, 1e6, taken=True, scaled=False) == "spike"


def test_steps_without_a_finite_loss_or_gradient_are_counted_and_ten_in_a_row_are_the_end() -> None:
    health = after([1.0] * 3)
    for step in range(4, 13):
        assert health.judge(step, math.nan, taken=False, scaled=False) == "non-finite"
    assert not health.has_diverged
    health.judge(13, 1.0, taken=True, scaled=False)
    assert (health.non_finite_steps, health.skipped_in_a_row) == (9, 0)
    for step in range(14, 14 + MAX_NON_FINITE_STEPS):
        assert not health.has_diverged
        health.judge(step, 1.0, taken=False, scaled=False)
    assert health.has_diverged
    assert health.last_good_step(23) == 2


def test_overflow_under_a_scaler_is_no_failure_unless_it_never_ends() -> None:
    health = after([1.0] * 3)
    for step in range(4, 3 + MAX_SKIPPED_STEPS):
        assert health.judge(step, 1.0, taken=False, scaled=True) == "overflow"
    assert (health.has_diverged, health.non_finite_steps, health.trouble_since) == (False, 0, None)
    health.judge(3 + MAX_SKIPPED_STEPS, 1.0, taken=False, scaled=True)
    assert health.has_diverged
    assert health.last_good_step(3 + MAX_SKIPPED_STEPS) == 2
    assert Health().judge(1, math.inf, taken=False, scaled=True) == "non-finite"


def test_what_it_remembers_goes_through_a_checkpoint() -> None:
    """Stopped anywhere, through JSON, it judges as if never stopped."""
    draws = np.random.default_rng(1)
    losses = [float(loss) if draws.random() > 0.05 else math.nan for loss in np.exp(draws.normal(0, 1.5, 400))]
    losses[200:215] = [1e6] * 15
    whole, parts = Health(), Health()
    for step, loss in enumerate(losses, 1):
        fresh = Health()
        fresh.load(json.loads(json.dumps(parts.state())))
        parts = fresh
        finite = math.isfinite(loss)
        assert whole.judge(step, loss, taken=finite, scaled=False) == parts.judge(step, loss, taken=finite, scaled=False)
        assert (whole.last_good_step(step), whole.has_diverged) == (parts.last_good_step(step), parts.has_diverged)
    assert whole.trouble_since is not None or whole.non_finite_steps > 0
    assert whole.state() == parts.state()


@pytest.mark.parametrize(
    ("key", "value"),
    [("losses", [math.nan]), ("losses", "1"), ("trouble_since", 1.5), ("calm_steps", -1), ("ordinary_loss", None), ("more", 1)],
)
def test_a_stranger_s_record_of_another_kind_is_refused(key: str, value: object) -> None:
    state = after([1.0]).state()
    check_state(state)
    with pytest.raises(UnreadableError, match="health"):
        check_state({"health": state["health"] | {key: value}})


def test_a_checkpoint_of_an_earlier_version_knows_the_count_alone() -> None:
    health = Health()
    health.load({"non_finite_steps": 3})
    assert health.non_finite_steps == 3
