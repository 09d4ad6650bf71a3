"""Time on a machine whose speed drifts: everything that is compared is timed in turn, round by round."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ddpm_cli.results.events import BenchProgress, Listener

ROUNDS = 5
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Work:
    """Hold something to time.

    Attributes:
        run: Does it once.
        units: What one call does, in the unit that is counted: images, evaluations or FLOPs.
        compiled: Whether it runs a network that the compiler has written.
    """

    run: Callable[[], object]
    units: float
    compiled: bool = False


class Parts:
    """Turn the shares of parts that are done into events over the whole.

    Args:
        count: Parts that there are.
        on_event: Told of them.
    """

    def __init__(self, count: int, on_event: Listener) -> None:
        self.count, self._on_event, self._begun = count, on_event, 0

    def next(self, what: str) -> Callable[[float], None]:
        """Begin a part, called `what`; the result is to be told of the share of it that is done, in [0, 1]."""
        before = self._begun
        self._begun += 1
        self._on_event(BenchProgress(before / self.count, what))
        return lambda share: self._on_event(BenchProgress((before + share) / self.count, what))


def rates(works: Sequence[Work], seconds: float, device: torch.device, on_progress: Callable[[float], None]) -> list[list[float]]:
    """Time each work in turn, several rounds of it (A B A B ...).

    A first call of each, in which memory is taken and kernels are chosen, does not count; a second says how many calls make a
    round. There are ROUNDS rounds, or FEWEST_ROUNDS where calls are so long that ROUNDS would take more than twice the time.

    Args:
        works: What to time.
        seconds: Time to spend on all of them together; a call that is longer than its share is still made once in each round.
        device: Whose work is waited for.
        on_progress: Told of the share that is done, in [0, 1].
    Returns:
        Units per second of each work in each round.
    """
    for work in works:
        work.run()
    estimates = [_seconds_of(work, 1, device) for work in works]
    of_round = seconds / ROUNDS / len(works)
    calls = [max(1, round(of_round / estimate)) for estimate in estimates]
    expected = ROUNDS * sum(count * estimate for count, estimate in zip(calls, estimates, strict=True))
    rounds = ROUNDS if expected <= 2 * seconds else FEWEST_ROUNDS
    measured: list[list[float]] = [[] for _ in works]
    for number in range(rounds):
        for place, work in enumerate(works):
            measured[place].append(calls[place] * work.units / _seconds_of(work, calls[place], device))
            on_progress((number + (place + 1) / len(works)) / rounds)
    return measured


def _seconds_of(work: Work, calls: int, device: torch.device) -> float:
    started = _now(device)
    for _ in range(calls):
        work.run()
    return _now(device) - started


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()
