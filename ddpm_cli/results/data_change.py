"""Hold from where on a run has the images that it has now, and what changed then: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Since(NamedTuple):
    """Say from where on a run has the images that it has now.

    Attributes:
        step: The first batch of them; 0 for a run whose images never changed.
        epochs: Passes over the images before.
    """

    step: int = 0
    epochs: float = 0.0


FROM_THE_START = Since()


@dataclass(frozen=True)
class DataChange:
    """Hold what changed in the images of a run.

    Attributes:
        step: Steps taken with those before.
        epochs: Passes over those before.
        images_before: To train on.
        images: That are now.
        added: Images to train on that were not among those before; None if nothing tells.
        removed: Images that are no longer among them; None likewise. One that was changed is removed and added.
        held_out_trained: Held-out images that were trained on before; None likewise.
        sha256_before: Of the images before.
        sha256: Of those that are now.
    """

    step: int
    epochs: float
    images_before: int
    images: int
    added: int | None
    removed: int | None
    held_out_trained: int | None
    sha256_before: str
    sha256: str
