"""Every sampler with every spacing, parameterization, guidance and schedule, built from the config as `ddpm sample` builds them.

The network is the best one, in closed form, for images of two classes: all pixels near -0.5, or all near 0.5. A kind that joins
one of the config's unions is covered here the moment it is there. Nothing is skipped: what is refused is checked to be refused.

WHOLE_PRODUCT=1 python -m pytest tests/sampling/test_sampler_product.py     for all combinations, in some minutes, and not only
those in which each sampler meets each schedule with each spacing, and all other choices meet in pairs.
"""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

import pytest
import torch
from all_samplers import SAMPLERS
from torch import Tensor

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.outline import sections
from ddpm_cli.config.schema.sample import (
    DdpmSampler,
    GuidanceConfig,
    ListSpacing,
    LogsnrSpacing,
    SampleConfig,
)
from ddpm_cli.config.schema.schedule import CosineSchedule, LinearSchedule, TableSchedule
from ddpm_cli.diffusion.denoise import Network, make_denoise, predictor
from ddpm_cli.diffusion.forward import Levels
from ddpm_cli.diffusion.levels import Schedule
from ddpm_cli.diffusion.prediction import Edm, Prediction, V
from ddpm_cli.diffusion.sampling import ImageNoise, sample
from ddpm_cli.errors import ScheduleError

T = 60
SHAPE = (1, 2, 2)
LABELS = torch.tensor([0, 1])
MEANS = torch.tensor([-0.5, 0.5])
VARIANCE = 0.01
WHOLE = "WHOLE_PRODUCT" in os.environ
WILD_IN_FEW_STEPS = ("heun", "heun churn", "euler churn", "ddpm fixed-large", "dpm-solver++ 3", "unipc 3")
SPACINGS = {kind: cls() for kind, cls in sections()["sample.sampler.spacing"].items()}
KINDS = {kind: cls() for kind, cls in sections()["objective.parameterization"].items()}
SCHEDULES = {
    kind: TableSchedule(timesteps=T, betas=tuple(torch.linspace(0.002, 0.3, T).tolist())) if kind == "table" else cls(timesteps=T)
    for kind, cls in sections()["schedule"].items()
} | {
    "linear, zero terminal SNR": LinearSchedule(timesteps=T, zero_terminal_snr=True),
    "cosine, shifted": CosineSchedule(timesteps=T, logsnr_shift=-1.4),
}
GUIDANCES = {
    "conditional": GuidanceConfig(),
    "unconditional": GuidanceConfig(scale=0.0),
    "guided": GuidanceConfig(scale=2.0, interval=(0.3, 10.0), rescale=0.5),
}


def best_network(kind: Prediction, schedule: Schedule, *, learned_variance: bool) -> Network:
    """Predicts for class 0 and 1, and 2 for either; all images of a call are at the same step."""

    def network(x: Tensor, t: Tensor, *labels: Tensor) -> Tensor:
        if isinstance(kind, Edm):
            level = schedule.level_of_ratio(math.exp(4 * float(t[0])))
        else:
            level = schedule.level(float(t[0]) / T if schedule.is_continuous else (float(t[0]) + 1.0) / T)
        at, alpha, sigma = Levels.all_at(level, 0, x), level.alpha, level.sigma
        if isinstance(kind, Edm):
            x = x / kind.preconditioning(at).c_in
        total = alpha**2 * VARIANCE + sigma**2
        # For two classes at +m and -m the softmax over distances is this logistic function.
        either = 0.5 * torch.tanh(x.sum((1, 2, 3)) * alpha * 0.5 / total)
        mean = torch.where(labels[0] == 2, either, labels[0] - 0.5).view(-1, 1, 1, 1)
        x_0 = mean + VARIANCE * alpha / total * (x - alpha * mean)
        output = kind.target(x_0, (x - alpha * x_0) / sigma, at)
        return torch.cat([output, torch.zeros_like(output)], 1) if learned_variance else output

    return network


@pytest.fixture(scope="module")
def schedules() -> dict[str, Schedule]:
    torch.manual_seed(0)
    return {name: build_schedule(config) for name, config in SCHEDULES.items()}


def images(sampler: Any, spacing: Any, kind: Prediction, guidance: GuidanceConfig, schedule: Schedule, steps: int) -> Tensor:
    learned = isinstance(sampler, DdpmSampler) and sampler.variance == "learned-range"
    predict = predictor(best_network(kind, schedule, learned_variance=learned), schedule, kind)
    denoise = make_denoise(
        guidance.build(predict, 2),
        schedule,
        threshold=SampleConfig().threshold.build(),
        labels=LABELS,
    )
    if isinstance(spacing, ListSpacing):
        spacing = ListSpacing(timesteps=tuple(range(T - 1, -1, -(T // steps)))[:steps])
    step, levels = sampler.model_copy(update={"spacing": spacing, "steps": steps}).prepare(schedule)
    assert len(levels) == steps
    noise = ImageNoise([0, 1], SHAPE, "cpu")
    return sample(denoise, step, levels, noise(), noise)


def of_each(sampler_name: str, schedule_name: str, whole: bool = WHOLE) -> list[tuple[str, str, str]]:
    """Parameterization, spacing and guidance of the trajectories of a sampler and a schedule."""
    if whole:
        return list(itertools.product(KINDS, SPACINGS, GUIDANCES))
    turn, other = list(SAMPLERS).index(sampler_name), list(SCHEDULES).index(schedule_name)
    kinds, guidances = list(KINDS), list(GUIDANCES)
    return [
        (
            kinds[(turn + other + number) % len(kinds)],
            spacing,
            guidances[(turn + 2 * other + number // len(kinds)) % len(guidances)],
        )
        for number, spacing in enumerate(SPACINGS)
    ]


def test_all_choices_meet_in_pairs() -> None:
    axes = (SAMPLERS, SCHEDULES, KINDS, SPACINGS, GUIDANCES)
    met = [(*pair, *rest) for pair in itertools.product(SAMPLERS, SCHEDULES) for rest in of_each(*pair, whole=False)]
    for one, other in itertools.combinations(range(len(axes)), 2):
        assert {(names[one], names[other]) for names in met} == set(itertools.product(axes[one], axes[other])), (one, other)


@pytest.mark.parametrize("schedule_name", SCHEDULES)
@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_the_product(sampler_name: str, schedule_name: str, schedules: dict[str, Schedule]) -> None:
    """Five steps of any of them give finite images in range; away from the few that extrapolate wildly, near the data too."""
    sampler, schedule = SAMPLERS[sampler_name], schedules[schedule_name]
    for kind, spacing, guidance in of_each(sampler_name, schedule_name):
        prediction = KINDS[kind].build()
        if schedule.at(T - 1).signal == 0.0 and kind in ("eps", "edm"):
            with pytest.raises(ScheduleError, match="zero terminal SNR"):
                images(sampler, LogsnrSpacing(), prediction, GuidanceConfig(), schedule, 5)
            continue
        x_0 = images(sampler, SPACINGS[spacing], prediction, GUIDANCES[guidance], schedule, 5)
        where = (kind, spacing, guidance, x_0)
        assert x_0.shape == (2, *SHAPE), where
        assert x_0.isfinite().all(), where
        assert x_0.abs().max() <= 1.0 + 1e-5, where
        if guidance == "conditional" and sampler_name not in WILD_IN_FEW_STEPS:
            assert (x_0 - MEANS.view(2, 1, 1, 1)).abs().max() < 0.45, where


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_thirty_steps_end_at_the_class(sampler_name: str, spacing: str, schedules: dict[str, Schedule]) -> None:
    """Each pixel within 4.5 of the data's standard deviations, or for the widest noise (fixed-large) within 6."""
    tolerance = 0.6 if sampler_name == "ddpm fixed-large" else 0.45
    for schedule_name, guidance in (("linear", "conditional"), ("cosine", "guided"), ("flow", "guided")):
        x_0 = images(SAMPLERS[sampler_name], SPACINGS[spacing], V(), GUIDANCES[guidance], schedules[schedule_name], 30)
        assert (x_0 - MEANS.view(2, 1, 1, 1)).abs().max() < tolerance, (schedule_name, guidance, x_0)
