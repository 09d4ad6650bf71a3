"""How long a run will take, from what an image and an update take."""

from __future__ import annotations

import pytest
from tiny_configs import tiny_config

from ddpm_cli.build.data import build_dataset
from ddpm_cli.core.compute.team import make_accelerator
from ddpm_cli.results.events import TrainPlan
from ddpm_cli.training.planning import plan
from ddpm_cli.training.planning.estimate import Pace


def planned(*sets: str) -> TrainPlan:
    config = tiny_config("data.limit=40", "train.batch_size=8", *sets)
    return plan.make_plan(config, build_dataset(config.data), make_accelerator("cpu", "fp32"))


def test_it_adds_up_passes_and_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "pace", lambda *_: Pace(0.5, 0.25))
    monkeypatch.setattr(plan, "seconds_per_update", lambda _: 2.0)
    found = planned("train.steps=10")
    assert found.estimated_seconds == 10 * (8 * 0.5 + 2.0)
    assert found.lost_to_others == 0.25
    assert planned("train.steps=10", "train.minutes=0.5").estimated_seconds == 30.0


def test_it_is_measured() -> None:
    few, many = planned("train.steps=10"), planned("train.steps=10000")
    assert few.estimated_seconds is not None
    assert many.estimated_seconds is not None
    assert 0 < 10 * few.estimated_seconds < many.estimated_seconds
