"""Keep the folder that an evaluation works in: one at a time, below it alone, and nothing left behind; and store its figures."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ddpm_cli.core.io.files import sweep_temporaries
from ddpm_cli.errors import DdpmError, RunError, RunLockedError
from ddpm_cli.runs.lock import locked
from ddpm_cli.runs.run_directory import RunDirectory

if TYPE_CHECKING:
    from ddpm_cli.evaluation.sample_parts import SampleSet
    from ddpm_cli.results.figure import Figure

WORK = "work"


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other evaluations out of a folder, whose parts they would take away.

    Raises:
        RunLockedError: If one is at work there.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(RunDirectory(folder)))
        except RunLockedError as error:
            remedy = "Wait for it, or give another folder by --out."
            raise RunLockedError(f"Another evaluation is at work in {folder}.", remedy) from error
        sweep_temporaries(folder)
        yield


def refuse_links(root: Path, folder: Path) -> None:
    """Keep the parts below `root`: whoever made its folders could have us write anywhere.

    Raises:
        RunError: If a link leads elsewhere.
    """
    if folder.resolve() != root.resolve() / folder.relative_to(root):
        raise RunError(f"{root / WORK} leads elsewhere by a symbolic link.", "Remove that link.")


def remove(sets: Sequence[SampleSet]) -> None:
    """Remove the work that went into figures, and the folders above it that hold no other."""
    for samples in sets:
        shutil.rmtree(samples.folder, ignore_errors=True)
        for folder in (samples.folder.parent, samples.folder.parent.parent):
            with suppress(OSError):
                folder.rmdir()


def require_finite(figures: Sequence[Figure], remedy: str) -> None:
    """Refuse figures that are no numbers.

    Raises:
        DdpmError: Naming the first.
    """
    for figure in figures:
        if not math.isfinite(figure.value):
            raise DdpmError(f"{figure.metric} is not a finite number.", remedy)
