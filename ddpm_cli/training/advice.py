"""Say what to try when training has diverged, with the run's own numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.config.schema.optimizer import AdamOptimizer, MuonOptimizer
from ddpm_cli.config.schema.schedule import CosineSchedule
from ddpm_cli.core.io.paths import shell_word

if TYPE_CHECKING:
    from pathlib import Path

    from ddpm_cli.config.schema.config import Config

USUAL_LR: float = AdamOptimizer().lr
USUAL_GRAD_NORM = 1.0
WARMUP_STEPS = 500
"""A warm-up that helps; nothing is gained by it where training is past it."""
SAFE_MAX_BETA = 0.99


def advice(config: Config, run: Path, step: int | None, precision: str) -> list[str]:
    """List commands to go on with, the likeliest remedy first, each with what it changes.

    Args:
        config: Of the run that diverged.
        run: Its folder.
        step: Of the checkpoint to go on from; None if there is none and the run has to be started anew.
        precision: The number format it was trained in: fp32, bf16 or fp16.
    """
    again = f"ddpm train --config {shell_word(run / 'config.toml')}"
    command = again if step is None else f"ddpm resume {shell_word(run)}"
    lines = [f"{command} --set {setting}   ({change})" for setting, change in _settings(config, step or 0, precision)]
    schedule = config.schedule
    if isinstance(schedule, CosineSchedule) and schedule.max_beta > SAFE_MAX_BETA:
        lines.append(f"{again} --set schedule.max_beta={SAFE_MAX_BETA}   (a new run; it was {schedule.max_beta:g})")
    return lines


def _settings(config: Config, step: int, precision: str) -> list[tuple[str, str]]:
    optimizer, norm = config.optimizer, config.train.max_grad_norm
    lr = min(optimizer.lr / 2, USUAL_LR) if optimizer.lr > 2 * USUAL_LR else optimizer.lr / 2
    settings = [(f"optimizer.lr={lr:g}", f"it was {optimizer.lr:g}")]
    if isinstance(optimizer, MuonOptimizer):
        settings.append((f"optimizer.matrix_lr={optimizer.matrix_lr / 2:g}", f"it was {optimizer.matrix_lr:g}"))
    lower = USUAL_GRAD_NORM if norm is None else norm / 2
    settings.append((f"train.max_grad_norm={lower:g}", "gradients were not clipped" if norm is None else f"it was {norm:g}"))
    if max(optimizer.warmup_steps, step) < WARMUP_STEPS:
        settings.append((f"optimizer.warmup_steps={WARMUP_STEPS}", f"it was {optimizer.warmup_steps}"))
    if precision != "fp32":
        settings.append(
            ("train.precision=fp32", f"it was {precision}; bf16 has a wider range too" if precision == "fp16" else "it was bf16")
        )
    return settings
