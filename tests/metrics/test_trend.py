"""Trends against other implementations, and how often a run is stopped that still improves, or goes on that does not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.metrics.trend import paired_trend, rank_trend
from ddpm_cli.training.patience.watch import Watch, no_longer_pays

PATIENCE, LOOKS, RUNS = 10, 40, 200


def watch(*sets: str) -> Watch:
    return Watch(load_config(sets=[f"train.patience={PATIENCE}", *sets]).config)


def looks_until_stopped(values: NDArray[np.float64], *sets: str) -> int:
    """Looks, from the first at which a run may be stopped, until it is; as many as there are if it is not."""
    watched = watch(*sets)
    for number, seen in enumerate(values):
        if no_longer_pays(watched.trend_with(seen)):
            return number - PATIENCE + 1
        watched.add(seen)
    return LOOKS


def courses(gain: float, *, memory: float = 0.0) -> NDArray[np.float64]:
    """A figure that falls by `gain` from each evaluation to the next, with noise of unit spread, [RUNS, PATIENCE + LOOKS - 1]."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((RUNS, PATIENCE + LOOKS - 1))
    for k in range(1, noise.shape[1]):
        noise[:, k] = memory * noise[:, k - 1] + np.sqrt(1 - memory**2) * noise[:, k]
    return noise - gain * np.arange(noise.shape[1])


def test_the_chances_of_ranks_are_those_of_kendall() -> None:
    rng = np.random.default_rng(0)
    for count in (5, 8, 13):
        values = rng.standard_normal(count)
        expected = stats.kendalltau(np.arange(count), values, method="exact", alternative="less").pvalue
        assert rank_trend(values, higher=False).p == pytest.approx(expected, abs=1e-12)
        assert rank_trend(-values, higher=True) == rank_trend(values, higher=False)


def test_equal_values_are_no_gain_and_a_straight_line_has_its_own() -> None:
    assert rank_trend(np.ones(6), higher=False).p == pytest.approx(1.0)
    falling = rank_trend(np.array([5.0, 4, 3, 2, 1]), higher=False)
    assert (falling.gain, falling.p) == (4.0, pytest.approx(1 / 120))


def test_the_paired_trend_is_students_test_of_slopes() -> None:
    losses = np.random.default_rng(1).standard_normal((7, 50)) - 0.1 * np.arange(7)[:, None]
    slopes = np.array([np.polyfit(np.arange(7), image, 1)[0] for image in losses.T])
    found = paired_trend(losses)
    assert found.p == pytest.approx(stats.ttest_1samp(slopes, 0, alternative="less").pvalue, rel=1e-9)
    assert found.gain == pytest.approx(-6 * slopes.mean())
    assert paired_trend(np.ones((5, 4))).p == 1.0


def test_a_trend_of_the_same_images_shows_far_below_the_spread_of_their_losses() -> None:
    rng = np.random.default_rng(2)
    hard = rng.exponential(1.0, 1000)
    losses = hard - 0.002 * np.arange(6)[:, None] + 0.01 * rng.standard_normal((6, 1000))
    assert paired_trend(losses).p < 1e-6
    alone = stats.ttest_ind(losses[0], losses[-1], alternative="greater").pvalue
    assert alone > 0.1


FCD = ("train.evaluate_every=100",)


@pytest.mark.parametrize(
    ("gain", "memory", "most_stopped"),
    [(1.0, 0.0, 0.0), (1.0, 0.8, 0.0), (0.5, 0.0, 0.05), (0.5, 0.8, 0.10)],
)
def test_a_metric_that_gains_more_than_its_noise_is_not_stopped(gain: float, memory: float, most_stopped: float) -> None:
    """Of 200 runs with 40 looks each; 2 % and 6 % of 1,000 other runs at half of the noise were stopped."""
    stopped = [looks_until_stopped(course[:, None], *FCD) < LOOKS for course in courses(gain, memory=memory)]
    assert np.mean(stopped) <= most_stopped


@pytest.mark.parametrize(("memory", "looks"), [(0.0, 1.0), (0.8, 3.0)])
def test_a_metric_that_stays_is_stopped_soon(memory: float, looks: float) -> None:
    """After 0.3 and 1.6 looks beyond the first, in the mean of 1,000 other runs."""
    found = [looks_until_stopped(course[:, None], *FCD) for course in courses(0.0, memory=memory)]
    assert max(found) < LOOKS
    assert np.mean(found) < looks


@pytest.mark.parametrize("memory", [0.0, 0.8])
def test_the_held_out_loss_is_judged_over_its_images(memory: float) -> None:
    """The weights wander by one unit of noise, images by ten: gains of half a unit are kept, and a run that stays is stopped."""
    rng = np.random.default_rng(4)
    wander = {gain: courses(gain, memory=memory)[:60] for gain in (0.0, 0.5)}
    images = 10 * rng.standard_normal((60, PATIENCE + LOOKS - 1, 400)) / 10
    found = {
        gain: [looks_until_stopped(course[:, None] + image) for course, image in zip(courses, images, strict=True)]
        for gain, courses in wander.items()
    }
    assert max(found[0.0]) < LOOKS
    assert np.mean(found[0.0]) < 5
    assert np.mean([looks < LOOKS for looks in found[0.5]]) <= 0.05
