"""What is suggested after training diverged: only what applies, with the run's own numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_cli.config.resolve.changes import change
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.training.advice import advice

RUN = Path("runs/x")


def settings(*sets: str, step: int | None = 1000, precision: str = "fp32") -> list[str]:
    return [line.split("   (")[0] for line in advice(load_config(sets=sets).config, RUN, step, precision)]


def test_the_learning_rate_and_the_gradient_norm_are_halved() -> None:
    assert settings() == [
        "ddpm resume runs/x --set optimizer.lr=0.0001",
        "ddpm resume runs/x --set train.max_grad_norm=0.5",
    ]


def test_a_learning_rate_far_from_the_usual_goes_back_to_it() -> None:
    assert settings("optimizer.lr=1e30")[0].endswith("optimizer.lr=0.0002")
    assert settings("optimizer.lr=3e-4")[0].endswith("optimizer.lr=0.00015")


def test_gradients_that_were_not_clipped_are() -> None:
    assert settings("train.max_grad_norm=none")[1].endswith("train.max_grad_norm=1")


@pytest.mark.parametrize(("step", "warmup", "found"), [(100, 0, True), (1000, 0, False), (100, 500, False), (None, 0, True)])
def test_a_warm_up_is_for_the_first_steps(step: int | None, warmup: int, found: bool) -> None:
    assert any("warmup" in line for line in settings(f"optimizer.warmup_steps={warmup}", step=step)) == found


@pytest.mark.parametrize(("precision", "found"), [("fp16", True), ("bf16", True), ("fp32", False)])
def test_a_narrow_number_format_is_widened(precision: str, found: bool) -> None:
    assert ("ddpm resume runs/x --set train.precision=fp32" in settings(precision=precision)) == found


def test_the_cosine_schedule_is_clipped_in_a_new_run() -> None:
    assert settings("schedule=cosine")[-1] == "ddpm train --config runs/x/config.toml --set schedule.max_beta=0.99"
    assert not any("max_beta" in line for line in settings("schedule={kind='cosine', max_beta=0.9}"))


def test_without_a_checkpoint_all_of_it_is_for_a_new_run() -> None:
    assert all(line.startswith("ddpm train --config runs/x/config.toml --set ") for line in settings(step=None))


def test_whatever_is_suggested_for_a_resume_is_allowed_there() -> None:
    config = load_config(sets=["schedule=cosine"]).config
    for line in settings("schedule=cosine", step=10, precision="fp16"):
        if line.startswith("ddpm resume"):
            change(config, [line.split("--set ")[1]], {})


def test_a_run_is_named_as_a_shell_takes_it() -> None:
    config = load_config().config
    assert advice(config, Path("my runs/x"), 5, "fp32")[0].startswith("ddpm resume 'my runs/x' --set ")
    assert advice(config, Path("my runs/x"), None, "fp32")[0].startswith("ddpm train --config 'my runs/x/config.toml' --set ")
