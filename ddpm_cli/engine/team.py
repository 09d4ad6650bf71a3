"""The processes that share an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def _alone() -> None:
    """One process waits for nobody."""


@dataclass(frozen=True)
class Team:
    """A process and those that work beside it.

    Attributes:
        rank: Number of this process; 0 is the main one, which alone reduces, stores and prints.
        size: Processes.
        wait: Returns when all of them have called it.
    """

    rank: int = 0
    size: int = 1
    wait: Callable[[], None] = _alone

    @classmethod
    def of(cls, accelerator: Accelerator) -> Team:
        """The processes of `torchrun` or `accelerate launch`."""
        return cls(accelerator.process_index, accelerator.num_processes, accelerator.wait_for_everyone)

    @property
    def is_main(self) -> bool:
        """Whether this is the main process."""
        return self.rank == 0
