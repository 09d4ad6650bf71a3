"""Find the noise schedule that a run or a file was made with. It imports no torch, unless the schedule is learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.loader import from_toml_text
from ddpm_cli.config.schema.schedule import LearnedSchedule
from ddpm_cli.sampling.stored import exported_config, find_checkpoint, stored_schedule_weights

if TYPE_CHECKING:
    from ddpm_cli.config.schema.schedule import ScheduleConfig
    from ddpm_cli.diffusion.levels import Schedule


def stored_schedule(path: Path, runs: Path = Path("runs")) -> tuple[ScheduleConfig, Schedule]:
    """Read the noise schedule of a run, checkpoint or exported file, with the config that it was made from.

    Only a learned schedule needs torch.

    Args:
        path: See `find_checkpoint`; or an exported `.safetensors` file.
        runs: The folder of runs.
    Raises:
        RequestError: If there is no such run or it is damaged.
    """
    if path.is_file():
        of_file = exported_config(path).schedule
        if not isinstance(of_file, LearnedSchedule):
            return of_file, build_schedule(of_file)
        import torch

        from ddpm_cli.sampling.generate import load_trained

        return of_file, load_trained(path, torch.device("cpu")).schedule
    checkpoint = find_checkpoint(path, runs)
    config = from_toml_text(checkpoint.config_toml, str(checkpoint.path)).schedule
    return config, build_schedule(config, stored_schedule_weights(checkpoint, config), checkpoint.path)
