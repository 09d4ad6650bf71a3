"""End at a good moment when the system asks for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Ctrl-C, the end of a job, and Slurm's warning before it, which Windows has not."""


class StopSignal(KeyboardInterrupt):
    """Tell that SIGTERM or SIGUSR1 came where there is nothing to save.

    Args:
        signal_number: Which.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class GivenUpError(Exception):
    """Tell that long work was left because a signal asked to stop."""


@dataclass
class StopRequest:
    """Remember a signal until it is asked about, between two steps.

    Attributes:
        signal_number: The first signal that came, or 0.
    """

    signal_number: int = 0

    def check(self) -> None:
        """Raise if a signal came; work that can be done again later calls it every now and then.

        Raises:
            GivenUpError: If a signal came.
        """
        if self.signal_number:
            raise GivenUpError


def interrupt_on_signals() -> None:
    """Have SIGTERM and SIGUSR1 interrupt this process as Ctrl-C does, so that it cleans up and can say why it ended."""

    def handle(number: int, _frame: FrameType | None) -> None:
        raise StopSignal(number)

    for number in STOP_SIGNALS:
        if number != signal.SIGINT:
            signal.signal(number, handle)


def signal_of(interrupt: KeyboardInterrupt) -> int:
    """Tell the signal behind an interrupt."""
    return interrupt.signal_number if isinstance(interrupt, StopSignal) else signal.SIGINT


def how_stopped(signal_number: int) -> str:
    """Say in a message what stopped the work."""
    return "Ctrl-C" if signal_number == signal.SIGINT else signal.Signals(signal_number).name


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn STOP_SIGNALS into a request to stop; a second Ctrl-C stops at once."""
    request = StopRequest()

    def handle(number: int, _frame: FrameType | None) -> None:
        if request.signal_number and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal_number = request.signal_number or number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
