"""Build what computes the passes of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ddpm_cli.core.compute.compilation import wants_compiling
from ddpm_cli.core.compute.side_by_side import SideBySide, side_by_side

if TYPE_CHECKING:
    from accelerate import Accelerator

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.diffusion.objectives.learned_schedule import ScheduleLearner


def build_side_by_side(
    config: Config, network: nn.Module, accelerator: Accelerator, learner: ScheduleLearner | None
) -> SideBySide | None:
    """Prepare to compute a batch in several passes at once: on a CPU that one process has, where passes are plain ones.

    Args:
        config: Of the run.
        network: On its device, as the passes are to call it: prepared by the accelerator.
        accelerator: Device, precision and processes.
        learner: Of a learned schedule.
    Returns:
        None where one pass after the other is all that can be.
    """
    train, device = config.train, accelerator.device
    plain = not (train.gradient_checkpointing or learner or wants_compiling(train.compile, device))
    if not plain or device.type != "cpu" or accelerator.num_processes > 1:
        return None
    return side_by_side(network, train.micro_batch_size or train.batch_size)
