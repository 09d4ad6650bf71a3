"""Name what lies in the folder of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ddpm_cli.core.io.paths import shell_word


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Lay out the folder of one run.

    Attributes:
        path: The run's folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """Give the folder's own name."""
        return self.path.resolve().name

    @property
    def shell_word(self) -> str:
        """Write the folder as a command takes it that a reader will paste into a shell."""
        return shell_word(self.path)

    @property
    def config_path(self) -> Path:
        """Say where the resolved config lies, enough to start the run again."""
        return self.path / "config.toml"

    @property
    def info_path(self) -> Path:
        """Say where versions, device, data, command line, seed and the time of creation lie."""
        return self.path / "run.json"

    @property
    def pictures_path(self) -> Path:
        """Say where the sums of the training pictures lie, by which it is told later which were added or removed."""
        return self.path / "pictures.sums"

    @property
    def metrics_log(self) -> Path:
        """Say where the metrics lie, one line per logging interval."""
        return self.path / "metrics.jsonl"

    @property
    def incidents_log(self) -> Path:
        """Say where the incidents lie, one line each: what went wrong with the numbers."""
        return self.path / "incidents.jsonl"

    @property
    def metrics_history(self) -> Path:
        """Say where the history lies, one row per epoch."""
        return self.path / "metrics.json"

    @property
    def samples_folder(self) -> Path:
        """Say where the grids lie, one per interval."""
        return self.path / "samples"

    @property
    def samples_png(self) -> Path:
        """Say where the newest grid lies."""
        return self.path / "samples.png"

    @property
    def loss_png(self) -> Path:
        """Say where the drawing of the losses over the steps so far lies."""
        return self.path / "loss.png"

    @property
    def trackers_path(self) -> Path:
        """Say where it is kept what each tracker calls this run, so that a resumed run goes on there."""
        return self.path / "trackers.json"

    @property
    def tensorboard_folder(self) -> Path:
        """Say where TensorBoard reads."""
        return self.path / "tensorboard"

    @property
    def wandb_folder(self) -> Path:
        """Say where wandb keeps what it sends, or has yet to send."""
        return self.path / "wandb"

    @property
    def checkpoints_folder(self) -> Path:
        """Say where the checkpoints lie, one folder each."""
        return self.path / "checkpoints"

    @property
    def averages_folder(self) -> Path:
        """Say where averages of the weights lie over the whole training, and the models that were made of them."""
        return self.path / "averages"

    @property
    def evaluations_folder(self) -> Path:
        """Say where figures of merit, their pictures, and the samples of an evaluation that was cut short lie."""
        return self.path / "evaluations"

    @property
    def tuned_path(self) -> Path:
        """Say where the samplers of few steps lie that were tuned for the run."""
        return self.path / "tuned.json"

    @property
    def lock_path(self) -> Path:
        """Say where it is written which process works in the run, or was the last one that did."""
        return self.path / "lock"
