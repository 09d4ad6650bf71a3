from __future__ import annotations

import math

import pytest

from ddpm_cli.build.budget import Budget, lr_factor
from ddpm_cli.config.schema.config import TrainConfig
from ddpm_cli.config.schema.optimizer import AdamOptimizer


@pytest.mark.parametrize(
    ("train", "images", "steps"),
    [
        (TrainConfig(epochs=2, batch_size=8), 10, 3),  # 20 images in batches of 8
        (TrainConfig(steps=7), 10, 7),
        (TrainConfig(epochs=100, steps=7, batch_size=8), 10, 7),
        (TrainConfig(minutes=1), 10, None),
    ],
)
def test_budget_counts_steps(train: TrainConfig, images: int, steps: int | None) -> None:
    assert Budget.of(train, images).steps == steps


def test_budget_ends_at_whichever_limit_comes_first() -> None:
    budget = Budget(steps=100, seconds=60)
    assert budget.share(50, 6) == 0.5
    assert budget.share(10, 45) == 0.75
    assert budget.share(100, 1) == budget.share(1, 61) == 1


def test_learning_rate_warms_up_and_decays() -> None:
    linear = AdamOptimizer(warmup_steps=4, decay="linear", final_lr_share=0.1)
    assert lr_factor(linear, 0, 0.0) == 0.25
    assert lr_factor(linear, 3, 0.0) == 1
    assert lr_factor(linear, 50, 0.5) == pytest.approx(0.55)
    assert lr_factor(linear, 99, 1.0) == pytest.approx(0.1)
    cosine = AdamOptimizer(decay="cosine")
    assert lr_factor(cosine, 10, 0.25) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))
    assert lr_factor(AdamOptimizer(), 10, 0.9) == 1
