"""The best checkpoint of a run, as its manifests mark it."""

from __future__ import annotations

from ddpm_cli.runs.checkpoints import Checkpoint, list_checkpoints, load_checkpoint
from ddpm_cli.runs.run_directory import RunDirectory


def best_checkpoint(run: RunDirectory) -> Checkpoint:
    """The newest that is marked; all must be whole."""
    return [checkpoint for path in list_checkpoints(run) if (checkpoint := load_checkpoint(path)).best][-1]
