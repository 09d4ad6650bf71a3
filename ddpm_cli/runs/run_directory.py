"""Name what lies in the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddpm_cli.core.io.paths import shell_word


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The layout of one run.

    Attributes:
        path: The run's folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.resolve().name

    @property
    def shell_word(self) -> str:
        """The folder as a command takes it that a reader will paste into a shell."""
        return shell_word(self.path)

    @property
    def config_path(self) -> Path:
        """The resolved config, enough to start the run again."""
        return self.path / "config.toml"

    @property
    def info_path(self) -> Path:
        """Versions, device, data, command line, seed and when it was created."""
        return self.path / "run.json"

    @property
    def metrics_log(self) -> Path:
        """One line per logging interval."""
        return self.path / "metrics.jsonl"

    @property
    def incidents_log(self) -> Path:
        """One line per incident: what went wrong with the numbers."""
        return self.path / "incidents.jsonl"

    @property
    def metrics_history(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.json"

    @property
    def samples_folder(self) -> Path:
        """A grid per interval."""
        return self.path / "samples"

    @property
    def samples_png(self) -> Path:
        """The newest grid."""
        return self.path / "samples.png"

    @property
    def loss_png(self) -> Path:
        """The losses over the steps so far, drawn."""
        return self.path / "loss.png"

    @property
    def trackers_path(self) -> Path:
        """What each tracker calls this run, so that a resumed run goes on there."""
        return self.path / "trackers.json"

    @property
    def tensorboard_folder(self) -> Path:
        """What TensorBoard reads."""
        return self.path / "tensorboard"

    @property
    def wandb_folder(self) -> Path:
        """Where wandb keeps what it sends, or has yet to send."""
        return self.path / "wandb"

    @property
    def checkpoints_folder(self) -> Path:
        """One folder per checkpoint."""
        return self.path / "checkpoints"

    @property
    def evaluations_folder(self) -> Path:
        """Figures of merit, their pictures, and the samples of an evaluation that was cut short."""
        return self.path / "evaluations"

    @property
    def lock_path(self) -> Path:
        """Names the process that works in the run, or the last one that did."""
        return self.path / "lock"
