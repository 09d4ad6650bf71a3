"""Say whether arms differ in a figure, from Welch's test against one of them."""

from __future__ import annotations

from collections.abc import Sequence

from ddpm_cli.metrics.registry import Direction
from ddpm_cli.metrics.significance import LEVEL, holm, welch
from ddpm_cli.results.comparison import ArmFigures, Verdict


def judge(better: Direction | None, arms: Sequence[ArmFigures], baseline: str) -> list[Verdict]:
    """Compare each arm with the baseline by Welch's test; Holm's correction keeps all false alarms together below LEVEL.

    Args:
        better: Which of the figures are better; None if that is not known.
        arms: The baseline among them.
        baseline: Its name.
    Returns:
        A verdict for each arm, in their order.
    """
    reference = next(arm for arm in arms if arm.arm == baseline)
    tested = {arm.arm: p for arm in arms if (p := _p_value(arm, reference)) is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return [_verdict(better, arm, reference, adjusted.get(arm.arm)) for arm in arms]


def _p_value(arm: ArmFigures, reference: ArmFigures) -> float | None:
    if arm is reference or arm.obstacle or reference.obstacle or min(len(arm.values), len(reference.values)) < 2:
        return None
    return welch(list(arm.values.values()), list(reference.values.values()))


def _verdict(better: Direction | None, arm: ArmFigures, reference: ArmFigures, p: float | None) -> Verdict:
    if arm is reference:
        return Verdict("baseline", "the baseline")
    if obstacle := arm.obstacle or reference.obstacle:
        return obstacle
    if arm.mean is None or reference.mean is None:
        return Verdict("cannot be told", f"cannot be told: {(arm if arm.mean is None else reference).arm} has no such figure")
    change = (arm.mean - reference.mean) / reference.mean if reference.mean > 0 else None
    if p is None:
        return Verdict("cannot be told", f"cannot be told: {_why_untested(arm, reference)}", change)
    if p >= LEVEL:
        return Verdict("not different", f"not different ({p_text(p)})", change, p)
    return Verdict("different", f"{_change(better, arm.mean, reference.mean)}, {p_text(p)}", change, p)


def _why_untested(arm: ArmFigures, reference: ArmFigures) -> str:
    single = [of.arm for of in (reference, arm) if len(of.values) == 1]
    if len(single) == 2:
        return "one seed each"
    return f"one seed of {single[0]}" if single else "the seeds do not spread"


def _change(better: Direction | None, mean: float, reference: float) -> str:
    way = "lower" if mean < reference else "higher"
    amount = f"{percent(abs(mean - reference) / reference)} %" if reference > 0 else f"{abs(mean - reference):.3g}"
    return f"{way} by {amount}" + ("" if better is None else " (better)" if way == better else " (worse)")


def percent(share: float) -> str:
    """Write a share as a percentage of two significant digits, without an exponent."""
    return f"{100 * share:.0f}" if share >= 1 else f"{100 * share:.2g}"


def p_text(p: float) -> str:
    """Write a p-value."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
