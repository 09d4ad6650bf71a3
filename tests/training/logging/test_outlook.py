"""What the log of a run says of its time, against curves that are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_configs import tiny_config

from ddpm_cli.metrics.learning_curve import EXPONENTS, fit
from ddpm_cli.render.terminal.format import at_twice, last_tenth
from ddpm_cli.training.logging.outlook import outlook

TIMES = np.arange(1, 21) * 50.0
A, B, C = 0.1, 0.05, 0.6
CONSTANT = tiny_config()


def course(noise: np.ndarray[Any, Any] | float = 0.0) -> np.ndarray[Any, Any]:
    return A + B * (TIMES / TIMES[-1]) ** -C + noise


def rows(values: np.ndarray[Any, Any], figure: str = "held_out_loss") -> list[dict[str, Any]]:
    return [
        {"step": step, "seconds": seconds, figure: value} for step, (seconds, value) in enumerate(zip(TIMES, values, strict=True))
    ]


def test_a_power_law_is_found_again() -> None:
    c = float(EXPONENTS[30])
    found = fit(TIMES / 1000, (A + B * (TIMES / 1000) ** -c)[None])
    assert (found.a[0], found.b[0], found.c[0]) == pytest.approx((A, B, c))


def test_the_gains_are_those_of_the_curve() -> None:
    found = outlook(rows(course()), CONSTANT)
    assert found.last_tenth is not None
    assert found.twice is not None
    assert found.at_twice is not None
    assert found.last_tenth.value == pytest.approx(B * (0.9**-C - 1), rel=0.02)
    assert found.twice.value == pytest.approx(B * (1 - 2**-C), rel=0.03)
    assert found.at_twice.value == pytest.approx(A + B * 2**-C, rel=0.01)
    assert (found.figure, found.evaluations, found.caution) == ("held_out_loss", 16, "")
    assert "would give 0.1329" in at_twice(found)


def test_the_error_is_that_of_repeated_runs() -> None:
    """Twice the error covered the truth in 95.5 % of 200 runs, of either gain."""
    noise = 0.001 * np.random.default_rng(1).standard_normal((200, len(TIMES)))
    inside: list[tuple[bool, ...]] = []
    for drawn in noise:
        found = outlook(rows(course(drawn)), CONSTANT)
        assert found.last_tenth is not None
        assert found.twice is not None
        tenth, twice = B * (0.9**-C - 1), B * (1 - 2**-C)
        inside.append(
            (
                abs(found.last_tenth.value - tenth) < 2 * found.last_tenth.error,
                abs(found.twice.value - twice) < 2 * found.twice.error,
            )
        )
    assert np.mean(inside, axis=0).min() > 0.87


def test_a_metric_of_which_higher_is_better_gains_by_rising(monkeypatch: pytest.MonkeyPatch) -> None:
    from ddpm_cli.training.logging import outlook as module

    monkeypatch.setattr(module, "watched", lambda config: "precision")
    monkeypatch.setattr(module, "in_training", lambda: {"precision": type("Record", (), {"direction": "higher"})})
    found = outlook(rows(1 - course(), "precision"), CONSTANT)
    assert found.twice is not None
    assert found.twice.value > 0


def test_too_few_points_are_told_instead_of_a_guess() -> None:
    found = outlook(rows(course())[:6], CONSTANT)
    assert (found.evaluations, found.last_tenth, found.twice) == (5, None, None)
    assert last_tenth(found).endswith("there are 5 values, and a curve needs 6")
    assert at_twice(found).startswith("the time: cannot be told")
    assert outlook([], CONSTANT).why == "nothing was measured"


def test_the_training_loss_stands_in_where_nothing_else_is_measured() -> None:
    assert outlook(rows(course(), "loss"), CONSTANT).figure == "loss"


def test_numbers_of_strangers_are_passed_over() -> None:
    foreign: list[dict[str, Any]] = [
        {"step": 1, "seconds": "x", "held_out_loss": []},
        {"step": 2, "seconds": -1, "held_out_loss": 1},
    ]
    assert outlook(foreign + rows(course()), CONSTANT) == outlook(rows(course()), CONSTANT)


def test_a_falling_rate_is_told_of() -> None:
    found = outlook(rows(course()), tiny_config("optimizer.decay=linear"))
    assert "learning rate fell" in at_twice(found)


def test_no_loss_judges_a_run_that_is_led_away_from_an_earlier_self() -> None:
    led = tiny_config("objective.autoguidance.scale=2")
    found = outlook(rows(course()), led)
    assert (found.last_tenth, found.twice) == (None, None)
    assert "no loss tells" in found.why
    assert outlook(rows(course(), "fcd"), tiny_config("objective.autoguidance.scale=2", "train.evaluate_every=3")).twice is not None
