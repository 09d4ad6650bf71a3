from __future__ import annotations

import pytest
import torch

from ddpm_cli.diffusion.schedules import NoiseSchedule, make_beta_schedule


@pytest.fixture(autouse=True)
def _same_random_numbers_each_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def linear() -> NoiseSchedule:
    return NoiseSchedule.from_betas(make_beta_schedule("linear", 1000))


@pytest.fixture(scope="session")
def cosine() -> NoiseSchedule:
    return NoiseSchedule.from_betas(make_beta_schedule("cosine", 1000))
