"""Welch's test, Holm's correction, and the verdicts made of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ddpm_cli.metrics.registry import direction_of
from ddpm_cli.metrics.significance import LEVEL, holm, welch
from ddpm_cli.metrics.verdicts import judge
from ddpm_cli.results.comparison import ArmFigures, Verdict


def arm(name: str, *values: float, obstacle: Verdict | None = None) -> ArmFigures:
    return ArmFigures(name, {f"{name}-s{seed}": value for seed, value in enumerate(values)}, obstacle)


def verdicts(*arms: ArmFigures, metric: str = "fcd") -> list[Verdict]:
    return judge(direction_of(metric), arms, arms[0].arm)


def test_welch_is_the_formula_of_welch_and_satterthwaite() -> None:
    a, b = [12.1, 11.4, 12.9], [14.0, 13.1, 17.2, 15.5]
    errors = [np.var(x, ddof=1) / len(x) for x in (a, b)]
    t = (np.mean(a) - np.mean(b)) / math.sqrt(sum(errors))
    freedom = sum(errors) ** 2 / sum(error**2 / (len(x) - 1) for error, x in zip(errors, (a, b), strict=True))
    assert welch(a, b) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-12)
    assert welch(a, b) != pytest.approx(stats.ttest_ind(a, b).pvalue, rel=1e-2)  # Student's, which assumes equal variances


def test_welch_without_any_spread() -> None:
    assert welch([3.0, 3.0], [3.0, 3.0]) == 1.0
    assert welch([3.0, 3.0], [4.0, 4.0]) is None
    assert welch([1.0, 1.0 + 1e-16], [2.0, 2.0 + 4e-16]) is not None  # no warning, which pytest would make an error


@pytest.mark.parametrize("second", [[1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_welch_needs_two_finite_figures(second: list[float]) -> None:
    with pytest.raises(ValueError, match="two finite"):
        welch([1.0, 2.0], second)


def test_holm_by_hand() -> None:
    # Sorted: 0.005 * 4 = 0.02; 0.01 * 3 = 0.03; 0.03 * 2 = 0.06; 0.04 * 1 = 0.04, which must not fall below 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_verdicts_in_words() -> None:
    base, low, same, single = arm("base", 10.0, 10.2, 9.9), arm("low", 8.8, 8.9, 9.0), arm("same", 10.1, 9.8, 10.3), arm("one", 5.0)
    found = verdicts(base, low, same, single)
    assert [verdict.kind for verdict in found] == ["baseline", "different", "not different", "cannot be told"]
    assert found[1].text.startswith("lower by 11 % (better), p = 0.00")
    assert found[1].change == pytest.approx(-0.1130, abs=1e-4)
    assert found[2].text.startswith("not different (p = ")
    assert found[3].text == "cannot be told: one seed of one"
    assert verdicts(base, low, metric="recall")[1].text.startswith("lower by 11 % (worse)")
    assert verdicts(base, low, metric="warmth")[1].text.startswith("lower by 11 %, p")


def test_p_values_are_adjusted_for_the_number_of_arms() -> None:
    base, low = arm("base", 10.0, 10.2, 9.9), arm("low", 9.5, 9.6, 9.4)
    alone = verdicts(base, low)[1].p
    among = verdicts(base, low, *(arm(f"same{number}", 10.1, 9.8, 10.3) for number in range(3)))[1].p
    assert alone is not None
    assert among == pytest.approx(4 * alone)


def test_what_cannot_be_told() -> None:
    assert verdicts(arm("a", 1.0), arm("b", 2.0))[1].text == "cannot be told: one seed each"
    assert verdicts(arm("a"), arm("b", 2.0, 3.0))[1].text == "cannot be told: a has no such figure"
    assert verdicts(arm("a", 1.0, 1.0), arm("b", 2.0, 2.0))[1].text == "cannot be told: the seeds do not spread"
    obstacle = Verdict("not comparable", "losses of different objectives, not comparable")
    assert verdicts(arm("a", 1.0, 1.1), arm("b", 2.0, 2.1, obstacle=obstacle))[1] == obstacle


def test_a_baseline_below_zero_has_no_percentage() -> None:
    found = verdicts(arm("a", -0.002, -0.0021, -0.0019), arm("b", 0.003, 0.0031, 0.0029), metric="kid")[1]
    assert found.text.startswith("higher by 0.005 (worse), p")
    assert found.change is None


@pytest.mark.parametrize(("arms", "seeds", "families"), [(2, 3, 2000), (5, 3, 300)])
def test_equal_arms_are_called_different_in_at_most_five_per_cent(arms: int, seeds: int, families: int) -> None:
    """All arms have the same normal distribution; a family errs if any of its arms is called different.

    Were the rate exactly LEVEL, the limit of LEVEL + 3 standard errors would be exceeded with a probability of about 0.001; the
    seed is fixed, so that the outcome is too.
    """
    draws = np.random.default_rng(5).normal(20.0, 1.5, (families, arms, seeds))
    wrong = 0
    for family in draws:
        found = verdicts(*(arm(str(number), *values) for number, values in enumerate(family.tolist())))
        wrong += any(verdict.kind == "different" for verdict in found)
    assert wrong / families <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / families)


def test_a_real_difference_is_found() -> None:
    """Three standard deviations apart, five seeds each: missed in fewer than one of ten cases."""
    draws = np.random.default_rng(6).normal(0.0, 1.0, (200, 2, 5)) + np.array([20.0, 17.0])[:, None]
    found = [verdicts(*(arm(str(number), *values) for number, values in enumerate(pair.tolist())))[1] for pair in draws]
    assert sum(verdict.kind == "different" and "lower" in verdict.text for verdict in found) >= 180
