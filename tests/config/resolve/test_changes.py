"""Settings that may change in the middle of a run, and those that may not."""

from __future__ import annotations

import pytest

from ddpm_cli.config.resolve.changes import UNKNOWN, as_last_said, change, differences, refusal
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.outline import all_keys
from ddpm_cli.errors import ConfigError

DEFAULT = load_config().config


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("train.seed=3", "which images come"),
        ("train.batch_size=3", "which images come"),
        ("data.limit=5", "which images come"),
        ("model.dropout=0.5", "what has been trained"),
        ("schedule=cosine", "what has been trained"),
        ("objective.timesteps=stratified", "what has been trained"),
        ("ema.warmup=false", "what has been trained"),
        ("train.eval_images=3", "no longer compare"),
        ("train.steps=9", "--steps"),
        ("train.device=cpu", "--device"),
        ("optimizer.kind=muon", "keep different moments"),
        ("optimizer.lrr=1", 'the nearest is "lr"'),
        ("optimizer.lr=-1", "greater than 0"),
    ],
)
def test_what_may_not_change_is_refused_with_the_reason(setting: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        change(DEFAULT, [setting], {})
    assert setting.split("=")[0] in refused.value.message
    assert why in refused.value.message


@pytest.mark.parametrize(
    "setting",
    [
        "optimizer.lr=1e-4",
        "optimizer.kind=adamw",
        "train.max_grad_norm=none",
        "train.precision=bf16",
        "train.micro_batch_size=4",
        "train.log_every=7",
        "sample.sampler=ddim",
        "sample.guidance.scale=1.0",
        "checkpoint.every=10",
        "ema.decay=0.99",
    ],
)
def test_what_may_change_does(setting: str) -> None:
    assert change(DEFAULT, [setting], {}) == load_config(sets=[setting]).config


def test_every_key_that_is_refused_has_a_reason() -> None:
    """A new field of the config gets one too, or may change."""
    assert [key for key in all_keys() if UNKNOWN in (refusal(key) or "")] == []


def test_a_run_goes_on_with_what_was_last_said_of_it() -> None:
    newest = load_config(
        sets=["optimizer.lr=1e-4", "train.max_grad_norm=none", "sample.sampler=ddim", "train.steps=7", "model.dropout=0.3"]
    ).config
    expected = load_config(sets=["optimizer.lr=1e-4", "train.max_grad_norm=none", "sample.sampler=ddim", "train.steps=7"]).config
    assert as_last_said(DEFAULT, newest) == expected  # but for the dropout, which is part of what was trained
    assert as_last_said(newest, DEFAULT).train.epochs == 20


def test_differences_are_told_with_what_was_before() -> None:
    after = load_config(sets=["optimizer.lr=1e-4", "train.max_grad_norm=none"]).config
    assert differences(DEFAULT, after) == ["optimizer.lr = 0.0001 (was 0.0002)", "train.max_grad_norm = none (was 1.0)"]
