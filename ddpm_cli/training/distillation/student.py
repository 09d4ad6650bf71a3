"""Make the config of a consistency model out of that of its teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ddpm_cli.config.resolve.loader import override
from ddpm_cli.config.schema.objective import AutoguidanceConfig, ConsistencyLoss, LogNormalTimesteps
from ddpm_cli.config.schema.sample import ConsistencySampler, GuidanceConfig, ListSpacing
from ddpm_cli.config.schema.start import StartConfig
from ddpm_cli.errors import ConfigError

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config, TrainConfig
    from ddpm_cli.config.schema.optimizer import OptimizerBase
    from ddpm_cli.sampling.stored_model import StoredModel

SHARE_OF_BUDGET = 0.6
"""Of the teacher's own: three minutes after five."""
SHARE_OF_LR = 0.25
SECOND_LEVEL = 0.7
"""Part of the steps of the schedule."""
LEVELS = LogNormalTimesteps(p_mean=-1.1, p_std=2.0)
"""Of both papers (Song & Dhariwal 2023, Sec. 3.5; Geng et al. 2024)."""


def student_config(
    teacher: StoredModel,
    sets: Sequence[str] = (),
    flags: Mapping[str, tuple[Any, str]] | None = None,
) -> Config:
    """Make the config that a teacher is distilled by: its own, but for the loss, the sampler, and the course of training.

    Args:
        teacher: See `find_teacher`.
        sets: `section.key=value` texts.
        flags: See `load_config`.
    Raises:
        ConfigError: With all faults of what is set; or if that is no distillation.
    """
    theirs = teacher.config
    sampler = ConsistencySampler(spacing=_two_levels(theirs.schedule.timesteps))
    has_learned_guidance = theirs.objective.autoguidance.scale > 1
    loss = ConsistencyLoss(guidance=theirs.sample.guidance, ends="teacher" if has_learned_guidance else "images")
    objective = {"loss": loss, "variance": "auto", "timesteps": LEVELS, "autoguidance": AutoguidanceConfig()}
    config = theirs.model_copy(
        update={
            "start": StartConfig(weights=teacher.origin.absolute()),
            "objective": theirs.objective.model_copy(update=objective),
            "optimizer": _slower(theirs.optimizer),
            "train": _shorter(theirs.train).model_copy(update={"sampler": sampler}),
            "sample": theirs.sample.model_copy(update={"sampler": sampler, "guidance": GuidanceConfig()}),
        }
    )
    config = override(config, sets=sets, flags=flags, stored=False)
    if not isinstance(config.objective.loss, ConsistencyLoss):
        raise ConfigError(
            f'objective.loss "{config.objective.loss.kind}" distils nothing; `ddpm distill` trains by "consistency".',
            "Leave it out.",
        )
    return config


def _two_levels(timesteps: int) -> ListSpacing:
    """Draw from pure noise, and again from `SECOND_LEVEL`: better than from the half (examples/experiments/distillation)."""
    return ListSpacing(timesteps=tuple(sorted({timesteps - 1, int(SECOND_LEVEL * timesteps)}, reverse=True)))


def _slower(optimizer: OptimizerBase) -> OptimizerBase:
    """The teacher's optimizer with lower rates: its weights are good already."""
    rates = {name: getattr(optimizer, name) * SHARE_OF_LR for name in ("lr", "matrix_lr") if hasattr(optimizer, name)}
    return optimizer.model_copy(update=rates)


def _shorter(train: TrainConfig) -> TrainConfig:
    """The teacher's training with a part of its budget; patience was chosen for another loss."""
    budget = {name: value * SHARE_OF_BUDGET for name in ("epochs", "minutes") if (value := getattr(train, name)) is not None}
    steps = {} if train.steps is None else {"steps": math.ceil(train.steps * SHARE_OF_BUDGET)}
    return train.model_copy(update=budget | steps | {"patience": None})
