"""Follow what a run is judged by while it trains, and tell when it no longer gets better. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ddpm_cli.config.schema.config import HELD_OUT_LOSS
from ddpm_cli.errors import CheckpointError, RequestError
from ddpm_cli.metrics.registry import in_training
from ddpm_cli.metrics.trend import paired_trend, rank_trend
from ddpm_cli.results.events import Listener, Notice
from ddpm_cli.results.outlook import Trend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray
    from torch import Tensor

    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.data.images import Dataset

HELD_OUT = "held_out_loss"
"""As the log calls it."""
PATIENCE, EVALUATIONS = "patience", "evaluations"
"""Of a checkpoint: what is kept, among its state and as a group of tensors; and the tensor in that."""
LEVEL = 0.2
"""A p above it is no gain. To stop a run that improves does harm, and to look once or twice more at one that does not costs little:
so the level is higher than that of a comparison."""
LEAST_IMAGES = 2
"""A spread over images takes so many."""


def watched(config: Config) -> str:
    """Name what a run is judged by while it trains, as the log calls it.

    That is what the best checkpoint is chosen by, if it is a metric; else the first metric that is measured during training and has
    a better and a worse; else the held-out loss.
    """
    train = config.train
    if config.checkpoint.best_by != HELD_OUT_LOSS:
        return config.checkpoint.best_by
    measured = train.evaluate_metrics if train.evaluate_every else ()
    return next((name for name in measured if name in in_training() and in_training()[name].direction), HELD_OUT)


def check_patience(config: Config, dataset: Dataset, on_event: Listener) -> None:
    """Refuse a patience that has nothing to look at, and warn of one that cannot act, or that ends a learning rate's fall.

    Raises:
        RequestError: If too few images are held out, and no metric is measured.
    """
    train, figure = config.train, watched(config)
    if train.patience is None:
        return
    if figure == HELD_OUT and min(len(dataset.test.images), train.eval_images) < LEAST_IMAGES:
        raise RequestError(
            f"train.patience has nothing to look at: no metric is measured, and fewer than {LEAST_IMAGES} images are held out.",
            "Hold images out (data.held_out, train.eval_images), or measure a metric (train.evaluate_every=1000).",
        )
    if figure == HELD_OUT and config.objective.autoguidance.scale > 1:
        raise RequestError(
            "train.patience would look at the held-out loss, which rises when objective.autoguidance sets in.",
            "Measure a metric (train.evaluate_every=1000), or set objective.autoguidance.scale=1.",
        )
    every = train.eval_every if figure == HELD_OUT else train.evaluate_every
    if train.steps is not None and every is not None and train.steps // every < train.patience:
        key = "train.eval_every" if figure == HELD_OUT else "train.evaluate_every"
        on_event(
            Notice(
                f"train.patience = {train.patience} will never stop this run: {train.steps:,} steps have "
                f"{train.steps // every} evaluations ({key} = {every:,}).",
                important=True,
            )
        )
    if config.optimizer.decay != "constant":
        on_event(
            Notice(
                f'optimizer.decay = "{config.optimizer.decay}" lowers the learning rate until the end of the budget, which gains '
                "most near its end. train.patience may stop before that; a constant rate suits it better.",
                important=True,
            )
        )


class Watch:
    """Keep the last evaluations of a run, and test whether they get better.

    Args:
        config: Of the run; nothing is kept without `train.patience`.
    """

    def __init__(self, config: Config) -> None:
        self.patience = config.train.patience
        self.figure = watched(config)
        self.stopped = False
        """Whether the run was stopped because it no longer paid."""
        self._higher = self.figure != HELD_OUT and in_training()[self.figure].direction == "higher"
        self._values: NDArray[np.float64] = np.empty((0, 0))

    def trend_with(self, values: NDArray[np.float64]) -> Trend | None:
        """Test the last evaluations and one more, of which nothing is kept.

        Args:
            values: The held-out loss of each image, [N], or the metric, [1].
        Returns:
            The trend; None if there are fewer than `train.patience` of them.
        """
        if self.patience is None or len(found := self._with(values)) < self.patience:
            return None
        return paired_trend(found) if self.figure == HELD_OUT else rank_trend(found[:, 0], higher=self._higher)

    def add(self, values: NDArray[np.float64]) -> None:
        """Keep one more evaluation, see `trend_with`, and let the oldest go that is no longer looked at."""
        if self.patience is not None:
            self._values = self._with(values)

    def restart(self) -> None:
        """Forget all evaluations, and that they stopped the run: it goes on otherwise than it was begun."""
        self.stopped, self._values = False, np.empty((0, 0))

    def _with(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The last `train.patience` evaluations, this one among them; those of other images are left out."""
        assert self.patience is not None
        before = self._values if self._values.shape[1:] == values.shape else np.empty((0, len(values)))
        return np.concatenate([before, values[None]])[-self.patience :]

    def state(self) -> dict[str, Any]:
        """Give what a checkpoint keeps of it beside the evaluations; nothing without `train.patience`."""
        return {} if self.patience is None else {PATIENCE: {EVALUATIONS: len(self._values), "stopped": self.stopped}}

    @property
    def evaluations(self) -> NDArray[np.float64]:
        """Give the evaluations that are kept, [K, N]; K may be 0."""
        return self._values

    def load(self, state: Mapping[str, Any], tensors: Callable[[], Mapping[str, Tensor]], source: Path) -> None:
        """Take over what `state` and `evaluations` gave; nothing from a checkpoint that has none.

        Args:
            state: Of the checkpoint.
            tensors: Reads its group PATIENCE, where it has one.
            source: Its path.
        Raises:
            CheckpointError: If the evaluations are no finite [K, N].
        """
        kept = state.get(PATIENCE)
        if kept is None or self.patience is None:
            return
        self.stopped = kept["stopped"]
        if not kept[EVALUATIONS]:
            return
        values = tensors().get(EVALUATIONS)
        if values is None or values.ndim != 2 or not values.isfinite().all():
            raise CheckpointError(f"{source} does not hold the evaluations that its state tells of.", "Use another checkpoint.")
        self._values = values.double().numpy()[-self.patience :]


def no_longer_pays(trend: Trend | None) -> bool:
    """Tell whether evaluations show that no gain is left."""
    return trend is not None and trend.p > LEVEL
