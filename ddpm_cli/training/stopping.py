"""Stop when a signal asks for it: all processes after the same step, or in the middle of work that can be done again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from ddpm_cli.core.compute.signals import GivenUpError, StopRequest

if TYPE_CHECKING:
    from ddpm_cli.core.compute.team import Team

Result = TypeVar("Result")


class Stopping:
    """Let all processes agree on when to stop, so that none steps on alone.

    Args:
        team: The processes.
    """

    def __init__(self, team: Team) -> None:
        self._team = team
        self.request = StopRequest()

    def check(self) -> None:
        """Raise if a signal came to this process; long work calls it every now and then, see `unless_stopped`.

        Raises:
            GivenUpError: If one came.
        """
        self.request.check()

    def agree(self, share: float = 0.0) -> tuple[float, int]:
        """Take the main process's clock and any process's signal for those of all.

        Args:
            share: Part of the budget that is used, by this process's clock.
        Returns:
            The part that the main process says is used, and a signal's number, or 0.
        """
        share, signal_number = self._team.largest(share if self._team.is_main else 0.0, self.request.signal_number)
        return share, int(signal_number)

    def give_up_after(self, signal_number: int) -> None:
        """Stop if there was a signal, of which all processes must have agreed that there was.

        Raises:
            GivenUpError: If there was one.
        """
        if signal_number:
            self.request.signal_number = signal_number
            raise GivenUpError

    def unless_stopped(self, work: Callable[[], Result]) -> Result:
        """Do what may take minutes and calls `check` on the way; a signal on any process has all of them give it up.

        Raises:
            GivenUpError: After a signal.
        """
        result = None
        with suppress(GivenUpError):
            result = work()
        _, signal_number = self.agree()
        self.give_up_after(signal_number)
        assert result is not None  # only a signal leaves it out
        return result
