"""Load what a look at diffusion needs besides a model: images, noise schedules, and a picture of several images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

import numpy as np

from ddpm_cli.api.arguments import Settings, as_sets, as_text, as_whole
from ddpm_cli.config.resolve.data_choice import data_flags
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.core.names import as_known
from ddpm_cli.data.scale import USUAL, Scale
from ddpm_cli.errors import RequestError, ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from ddpm_cli.diffusion.flows import PathSchedule
    from ddpm_cli.diffusion.levels import Schedule
    from ddpm_cli.diffusion.schedules import NoiseSchedule

MOST_CHANNELS = 16
SPLITS = ("train", "test")


class _Parts(NamedTuple):
    images: NDArray[Any]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]


class Images(_Parts):
    """Hold images with their labels; to be taken apart as `images, labels, class_names = load_images()`.

    Attributes:
        images: NumPy [N, H, W, C], uint8 in [0, 255] unless `scale` says otherwise; C is 1 for grey ones.
        labels: Classes in [0, len(class_names)), int64 [N].
        class_names: Name of each class; one or none where there is nothing to tell apart.
        scale: How the values are stored, and which of them are black and white; `scale.view_array(images)` shows them in 8 bits.
    """

    scale: Scale = USUAL


def load_images(
    data: str | Path | None = None, *, n: int | None = None, split: Literal["train", "test"] = "train", set: Settings | None = None
) -> Images:
    """Load the images that a model would be trained on, or the held-out ones.

    Args:
        data: Name of a data set, a folder or archive of pictures, a folder of scans, a file of arrays such as .npz, or a scan;
            Fashion-MNIST if None.
        n: The first n of them, at least 1; all if None.
        split: "train" or "test".
        set: Fields of the config's section `data` by dotted key, such as {"data.size": 64}.
    Raises:
        DataError: If they are nowhere to be had, or unusable.
        RequestError: If n is not positive, or there is no such split or field.
    """
    from ddpm_cli.build.data import build_dataset
    from ddpm_cli.render.terminal.console import show_notice, show_notices
    from ddpm_cli.results.events import Notice

    n = None if n is None else as_whole(n, "n")
    if (part := as_known(as_text(split, "split"), SPLITS)) not in SPLITS:
        raise RequestError(f"There is no split {split!r}.", f"Choose one of {', '.join(SPLITS)}.")
    flags = data_flags(None if data is None else str(data), "data")
    dataset = build_dataset(load_config(sets=as_sets(set), flags=flags).config.data, show_notices)
    for notice in dataset.notices:
        show_notice(Notice(notice, important=True))
    chosen = dataset.train if part == "train" else dataset.test
    images = np.ascontiguousarray(chosen.images[:n].transpose(0, 2, 3, 1))
    found = Images(images, chosen.labels[:n], chosen.class_names)
    found.scale = dataset.scale
    return found


@overload
def make_schedule(  # type: ignore[overload-overlap]
    kind: Literal["flow", "trig-flow"], timesteps: int = 1000, **options: object
) -> PathSchedule: ...


@overload
def make_schedule(kind: str = "linear", timesteps: int = 1000, **options: object) -> NoiseSchedule: ...


def make_schedule(kind: str = "linear", timesteps: int = 1000, **options: object) -> Schedule:
    """Make a noise schedule as `ddpm train` would use it; needs no torch.

    Args:
        kind: Such as "cosine"; `ddpm ls schedules` lists them.
        timesteps: T, at least 1.
        options: Of that kind, such as beta_end=0.03 or s=0.01, and of all: logsnr_shift=-1.0, zero_terminal_snr=True.
    Returns:
        Its tables `betas`, `alphas_cumprod`, `snr` and others, each float64 [T]; "flow" and "trig-flow" have `signal_scales`,
        `noise_scales`, `snr` and `sigmas`, and any `level(t)`.
    Raises:
        ConfigError: If there is no such kind or option, or a value is out of its range.
        ScheduleError: If the betas make no schedule.
    """
    from ddpm_cli.build.schedule import build_schedule

    flags = {"schedule.kind": (kind, "kind"), "schedule.timesteps": (timesteps, "timesteps")}
    # A schedule alone has no sampler, whose steps might be more than T.
    fitting = {"train.sampler": {"kind": "ddpm", "steps": None}}
    sets = as_sets({"schedule": options, **fitting})
    return build_schedule(load_config(sets=sets, flags=flags).config.schedule)


def make_grid(images: NDArray[np.uint8], columns: int | None = None) -> Image:
    """Put images side by side in one picture, which notebooks display and `.save("grid.png")` writes.

    Args:
        images: uint8 [N, H, W, C]; N at least 1, C in [1, 16], of which 2 and more than 4 are shown in false colours. Of other
            depths see `scale.view_array`.
        columns: Images in a row, at least 1; as near to a square as possible if None.
    Raises:
        ShapeError: If they are no such images.
        RequestError: If columns is not positive.
    """
    from ddpm_cli.render.pictures.images import grid, picture

    if not isinstance(images, np.ndarray):
        raise ShapeError(f"A grid is made of a NumPy array, not of {type(images).__name__}.", "See Model.sample.")
    if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0 or images.shape[3] not in range(1, MOST_CHANNELS + 1):
        raise ShapeError(
            f"A grid is made of images uint8 [N, H, W, C], not of {images.dtype} {list(images.shape)}.", "See Model.sample."
        )
    columns = None if columns is None else as_whole(columns, "columns")
    return picture(grid(images.transpose(0, 3, 1, 2), columns))
