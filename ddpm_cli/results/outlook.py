"""Hold what a run's evaluations say of its time: whether they still get better, what the last of it gained, what more would."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trend:
    """Hold a test of whether the evaluations of a run get better.

    Attributes:
        gain: From the first of them to the last, by their trend; above 0 is better.
        p: Chance of such a trend, or a stronger one, where there is no gain, in [0, 1].
    """

    gain: float
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoLongerPaid:
    """Hold why `train.patience` stopped a run.

    Attributes:
        figure: What it looked at: "held_out_loss", or a metric such as "fcd".
        evaluations: How many it looked at.
        trend: What they showed.
        lr_share: Part of the peak learning rate that was left.
    """

    figure: str
    evaluations: int
    trend: Trend
    lr_share: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """Hold a number that a fit gives, and its standard error."""

    value: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Hold what a run's log says of its time.

    Attributes:
        figure: What the run is judged by: a metric such as "fcd", "held_out_loss", or "loss"; empty if nothing was logged.
        evaluations: How many of them the curve was fitted to.
        now: The last one; None if there is none.
        last_tenth: What the last tenth of the time gained, above 0 for the better; None, as the next two are, if `why` says why.
        twice: What as much time again would gain.
        at_twice: What the figure would then be.
        why: Why nothing can be told; empty if it can.
        caution: What makes it uncertain beyond its error; empty if nothing is known to.
    """

    figure: str
    evaluations: int
    now: float | None = None
    last_tenth: Estimate | None = None
    twice: Estimate | None = None
    at_twice: Estimate | None = None
    why: str = ""
    caution: str = ""
