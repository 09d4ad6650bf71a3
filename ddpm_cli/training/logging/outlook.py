"""Tell from a run's log what the last tenth of its time gained, and what twice the time would give. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ddpm_cli.core.wording import counted
from ddpm_cli.metrics.learning_curve import LEAST_POINTS, fit_with_error
from ddpm_cli.metrics.registry import in_training
from ddpm_cli.results.outlook import Estimate, Outlook
from ddpm_cli.runs.figures import finite
from ddpm_cli.training.patience.watch import HELD_OUT, watched

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddpm_cli.config.schema.config import Config

LOSS = "loss"
SETTLED = 0.25
"""Part of the time after which the curve is fitted: before it the rate warms up, and the average of the weights grows long."""
TENTH = 0.1
LED_AWAY = "no loss tells how good a model is that is led away from an earlier self; measure a metric (train.evaluate_every)"
FALLING = "the learning rate fell over this time, and would fall more slowly over twice, so that the curve there is another one"


def outlook(rows: Iterable[Mapping[str, Any]], config: Config) -> Outlook:
    """Tell what the time of a run gained, by a power law through its evaluations but for those of the first quarter of the time.

    It is judged by what `train.patience` looks at, or by the training loss where no image is held out.

    Args:
        rows: Of metrics.jsonl, in order; may come from a stranger.
        config: Of the run.
    """
    known = list(rows)
    for figure in dict.fromkeys((watched(config), HELD_OUT, LOSS)):
        pairs = [(finite(row.get("seconds")), finite(row.get(figure))) for row in known]
        points = [(seconds, value) for seconds, value in pairs if seconds is not None and seconds > 0 and value is not None]
        if points:
            return _of_points(figure, np.array(sorted(points)), config)
    return Outlook(figure="", evaluations=0, why="nothing was measured")


def _of_points(figure: str, points: NDArray[np.float64], config: Config) -> Outlook:
    end, now = float(points[-1, 0]), float(points[-1, 1])
    if figure not in in_training() and config.objective.autoguidance.scale > 1:
        return Outlook(figure=figure, evaluations=len(points), now=now, why=LED_AWAY)
    late = points[points[:, 0] >= SETTLED * end]
    if len(late) < LEAST_POINTS:
        why = f"of the last three quarters of the time there are {counted(len(late), 'value')}, and a curve needs {LEAST_POINTS}"
        return Outlook(figure=figure, evaluations=len(late), now=now, why=why)
    better = -1.0 if figure in in_training() and in_training()[figure].direction == "higher" else 1.0
    found, like_it = fit_with_error(late[:, 0] / end, late[:, 1])

    def gain(start: float, to: float) -> Estimate:
        return Estimate(better * float(found.fall(start, to)[0]), float(like_it.fall(start, to).std()))

    return Outlook(
        figure=figure,
        evaluations=len(late),
        now=now,
        last_tenth=gain(1 - TENTH, 1.0),
        twice=gain(1.0, 2.0),
        at_twice=Estimate(float(found.at(2.0)[0]), float(like_it.at(2.0).std())),
        caution="" if config.optimizer.decay == "constant" else FALLING,
    )
