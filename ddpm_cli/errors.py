"""Name everything that can go wrong, as one tree.

    DdpmError                     exit status 1
    ├── RequestError              exit status 2: what was asked for cannot be done
    │   ├── ConfigError           a config file, preset, flag or --set is wrong
    │   ├── ExtensionError        what another package adds to the choices cannot be used
    │   ├── ScheduleError         betas that make no schedule, steps outside it
    │   ├── ShapeError            tensors or images whose sizes do not fit
    │   ├── DeviceError           a device or precision this machine does not have
    │   ├── DataError             a data set that is missing, damaged or unusable
    │   ├── RunError              no such run, or a run that cannot be used now
    │   │   └── RunLockedError    another process is working in the run
    │   ├── CheckpointError       damaged, or of another architecture
    │   └── OutputError           a path that cannot be written
    │       └── SaveFailedError   exit status 1: the disk took no more in the midst of the work
    │           └── RunMovedError the folder of a run is no longer where it was
    ├── PeerLostError             another process of the same launch has ended
    ├── DivergedError             training produced no finite loss
    ├── OutOfMemoryError          the device or the machine has too little memory
    └── InterruptedRunError       a signal ended the work after it was saved

A message names the thing and the reason; `remedy` says what to do about it.
"""

from __future__ import annotations


class DdpmError(Exception):
    """Show a user one message; every error of ours is below it.

    Args:
        message: What is wrong and why, one or two sentences.
        remedy: What to do about it; empty if there is nothing to add.
    """

    exit_status = 1

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class RequestError(DdpmError):
    """Tell that what was asked for cannot be done; nothing was touched."""

    exit_status = 2


class ConfigError(RequestError):
    """Tell that a config file, a preset, a flag or a --set is wrong."""


class ExtensionError(RequestError):
    """Tell that what another installed package adds to the choices cannot be used."""


class ScheduleError(RequestError):
    """Tell that betas make no noise schedule, or that steps are outside of one."""


class ShapeError(RequestError):
    """Tell that sizes of tensors or images do not fit together."""


class DeviceError(RequestError):
    """Tell that this machine does not have a device or a precision."""


class DataError(RequestError):
    """Tell that a data set is missing, damaged or unusable."""


class RunError(RequestError):
    """Tell that there is no such run, or that it cannot be used now."""


class RunLockedError(RunError):
    """Tell that another process is working in the run folder."""


class CheckpointError(RequestError):
    """Tell that a checkpoint is damaged or of another architecture."""


class OutputError(RequestError):
    """Tell that a path cannot be written."""


class SaveFailedError(OutputError):
    """Tell that the disk took no more in the midst of the work; what was saved before is intact."""

    exit_status = 1


class RunMovedError(SaveFailedError):
    """Tell that the folder of a run is no longer where it was when the run was opened for writing."""


class DivergedError(DdpmError):
    """Tell that training produced no finite loss for several steps in a row."""


class PeerLostError(DdpmError):
    """Tell that another process of the same launch has ended."""


class OutOfMemoryError(DdpmError):
    """Tell that a device, or the machine, has too little memory for what was begun.

    Args:
        message: What there was no memory for.
        remedy: How to ask for less.
        fitted: The largest number of images that was found to fit.
    """

    def __init__(self, message: str, remedy: str = "", fitted: int | None = None) -> None:
        super().__init__(message, remedy)
        self.fitted = fitted


class InterruptedRunError(DdpmError):
    """Tell that a signal ended the work after it was saved.

    Args:
        message: What was saved and where.
        remedy: How to go on.
        signal_number: The signal; the exit status is 128 plus it.
    """

    def __init__(self, message: str, remedy: str, signal_number: int) -> None:
        super().__init__(message, remedy)
        self.exit_status = 128 + signal_number
