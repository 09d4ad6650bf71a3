from __future__ import annotations

import time

import pytest
import torch

from ddpm_cli.bench.timing import FEWEST_ROUNDS, ROUNDS, Parts, Work, rates
from ddpm_cli.results.events import BenchProgress, Event

CPU = torch.device("cpu")


class Clock:
    """A clock that only work moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.calls = 0.0, ""
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def work(self, name: str, seconds: list[float], units: float) -> Work:
        """Work whose calls take so many seconds, the last of them ever after."""

        def run() -> None:
            self.calls += name
            self.now += seconds.pop(0) if len(seconds) > 1 else seconds[0]

        return Work(run, units)


def test_work_is_done_in_turn_after_two_calls_that_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, shares = Clock(monkeypatch), []
    works = [clock.work("a", [9.0, 1.0], 10), clock.work("b", [9.0, 2.0], 10)]
    measured = rates(works, 4 * ROUNDS, CPU, shares.append)
    assert clock.calls == "abab" + ROUNDS * "aab"
    assert measured == [[10.0] * ROUNDS, [5.0] * ROUNDS]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_a_slow_round_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    measured = rates([clock.work("a", [1.0, 1.0, 1.0, 4.0, 1.0], 1)], ROUNDS, CPU, lambda share: None)
    assert measured == [[1.0, 0.25, 1.0, 1.0, 1.0]]


def test_long_calls_get_fewer_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    measured = rates([clock.work("a", [10.0], 1)], 1.0, CPU, lambda share: None)
    assert measured == [[0.1] * FEWEST_ROUNDS]


def test_parts_add_up() -> None:
    events: list[Event] = []
    parts = Parts(2, events.append)
    parts.next("first")(0.5)
    parts.next("second")(1.0)
    assert events == [
        BenchProgress(0.0, "first"),
        BenchProgress(0.25, "first"),
        BenchProgress(0.5, "second"),
        BenchProgress(1.0, "second"),
    ]
