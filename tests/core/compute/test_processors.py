"""What other programs take of the processors, from the operating system's counts."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import psutil
import pytest

from ddpm_cli.core.compute.processors import Processors


class Clocks:
    """The operating system's counts, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, processors: int) -> None:
        self.now, self.own, self.idle = 0.0, 0.0, [0.0] * processors
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "process_time", lambda: self.own)
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: [SimpleNamespace(idle=idle) for idle in self.idle])
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)), raising=False)

    def pass_by(self, seconds: float, own: float, *idle: float) -> None:
        self.now, self.own = self.now + seconds, self.own + own
        self.idle = [before + more for before, more in zip(self.idle, idle, strict=True)]


def lost(monkeypatch: pytest.MonkeyPatch, own: float, *idle: float, wanted: int = 2) -> float:
    clocks = Clocks(monkeypatch, len(idle))
    processors = Processors(wanted)
    clocks.pass_by(10, own, *idle)
    assert processors.seconds == 10
    return processors.lost()


def test_alone_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost(monkeypatch, 20, 0, 0) == 0
    assert lost(monkeypatch, 15, 2, 3) == 0  # it waits for itself


def test_what_another_program_had_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost(monkeypatch, 10, 0, 0) == pytest.approx(0.5)
    assert lost(monkeypatch, 13, 0, 0) == pytest.approx(0.35)


def test_processors_without_work_are_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost(monkeypatch, 20, 0, 0, 0, 0) == 0
    assert lost(monkeypatch, 10, 0, 10, 0, 0) == 0
    assert lost(monkeypatch, 10, 0, 0, wanted=1) == 0


def test_processors_that_this_process_may_not_use_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch, 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    processors = Processors(2)
    clocks.pass_by(10, 10, 0, 0, 10, 10)
    assert processors.lost() == pytest.approx(0.5)


def test_each_look_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(monkeypatch, 2)
    processors = Processors(2)
    clocks.pass_by(10, 10, 0, 0)
    processors.lost()
    clocks.pass_by(5, 10, 0, 0)
    assert processors.lost() == 0
    assert processors.lost() == 0  # no time has passed


@pytest.mark.parametrize(("wanted", "lost", "left"), [(2, 0.5, 1), (2, 1.0, 1), (8, 0.35, 5), (1, 0.9, 1)])
def test_some_processor_is_always_left(wanted: int, lost: float, left: int) -> None:
    assert Processors(wanted).left(lost) == left


def test_the_real_counts_are_read() -> None:
    processors = Processors(1)
    began = time.monotonic()
    while time.monotonic() - began < 0.1:
        pass
    assert 0 <= processors.lost() <= 1
