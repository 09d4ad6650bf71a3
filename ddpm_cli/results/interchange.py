"""Hold what `export` and `import` found and wrote, as `interop` tells it and `render` draws it: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """Compare two ways to the same numbers.

    Attributes:
        what: Was compared.
        difference: Largest absolute one; NaN if either way gives NaN.
        tolerance: What it may be at most.
    """

    what: str
    difference: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Tell whether the difference is within the tolerance, which NaN is not."""
        return self.difference <= self.tolerance


@dataclass(frozen=True)
class AverageMade:
    """Hold what came of making an average of a run's weights.

    Attributes:
        path: The file.
        width: Relative standard deviation of its profile.
        misfit: How far its profile is from the one that was asked for, as a share of that.
        step: Optimizer steps at which it ends.
        stored: Averages that it was made of.
    """

    path: Path
    width: float
    misfit: float
    step: int
    stored: int


@dataclass(frozen=True)
class ExportResult:
    """Hold what was written.

    Attributes:
        origin: The checkpoint that was exported.
        step: Optimizer steps that it was trained for.
        path: The file or folder.
        bytes: Its size.
        comparisons: Of what it says with what the original says, at least one.
        rounding: By how much half precision changes predictions at most; None for full precision. Comparisons are with the rounded
            original.
    """

    origin: Path
    step: int
    path: Path
    bytes: int
    comparisons: tuple[Comparison, ...]
    rounding: float | None


@dataclass(frozen=True)
class Imported:
    """Hold what came of it.

    Attributes:
        run: The new run.
        origin: The folder or file that it was made from.
        weights: Name of the file that its weights were in, of the first if there are several.
        parameters: Of its network.
        image_shape: Channels, height and width of its images.
        data: Name of the data set that it can be measured and trained on; None if none was named.
        differences: Sentences on what the pipeline samples otherwise.
    """

    run: Path
    origin: Path
    weights: str
    parameters: int
    image_shape: tuple[int, int, int]
    data: str | None
    differences: tuple[str, ...]
