"""Draw samples in several processes together, each its share, for the main one to show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.sampling.bounds import with_fitting_batch
from ddpm_cli.sampling.compiled import with_fast_network
from ddpm_cli.sampling.generate import FROM_NOISE, generate_samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.core.compute.team import Team
    from ddpm_cli.sampling.courses import Course
    from ddpm_cli.sampling.generate import FrameListener, Frames
    from ddpm_cli.sampling.trained_model import TrainedModel


def shared_samples(
    team: Team,
    trained: TrainedModel,
    seeds: Sequence[int],
    settings: SampleConfig,
    *,
    labels: Sequence[int] | None = None,
    course: Course = FROM_NOISE,
    on_event: Listener = ignore,
    on_frame: FrameListener | None = None,
) -> Iterator[Tensor]:
    """Draw one image for each seed (DDPM, Alg. 2), each process some of them; an image is the same whoever draws it.

    Args:
        team: The processes, all of which must exhaust what this returns.
        trained: The model, on every process.
        seeds: See `generate_samples`.
        settings: See `generate_samples`; the batch size is each process's own.
        labels: See `generate_samples`.
        course: See `generate_samples`.
        on_event: Told of this process's denoising steps.
        on_frame: Given this process's frames.
    Yields:
        On the main process images [B, C, H, W] on the CPU in the order of the seeds, as stored; nothing on the others.
    Raises:
        RequestError: See `generate_samples`.
    """
    share = len(range(len(seeds))[team.share(len(seeds))])
    settings = with_fitting_batch(trained, settings, share, on_event)
    trained = with_fast_network(trained, share, settings, on_event)
    if team.size == 1:
        yield from generate_samples(trained, seeds, settings, labels=labels, course=course, on_event=on_event, on_frame=on_frame)
        return
    own = own_samples(team, trained, seeds, settings, labels=labels, course=course, on_event=on_event, on_frame=on_frame)
    yield from team.collect(own, len(seeds))


def own_samples(
    team: Team,
    trained: TrainedModel,
    seeds: Sequence[int],
    settings: SampleConfig,
    *,
    labels: Sequence[int] | None = None,
    course: Course = FROM_NOISE,
    on_event: Listener = ignore,
    on_frame: FrameListener | None = None,
) -> Tensor:
    """Draw the share of `shared_samples` that falls to this process, [B, C, H, W] on the CPU; it waits for no other."""
    share = team.share(len(seeds))
    if share.start == share.stop:
        return torch.empty(0, *trained.image_shape, dtype=getattr(torch, trained.scale.stored))
    of_share = None if labels is None else labels[share]
    batches = generate_samples(
        trained, seeds[share], settings, labels=of_share, course=course, on_event=on_event, on_frame=on_frame
    )
    return torch.cat(list(batches))


def shared_frames(team: Team, frames: Frames, count: int) -> list[NDArray[np.uint8]]:
    """Gather the frames of all processes.

    Args:
        team: The processes.
        frames: What this one kept while it drew its share.
        count: Images over all processes.
    Returns:
        On the main process each frame, uint8 [N, C, H, W] with all images in the order of the seeds; an empty list on the others.
    """
    own = torch.from_numpy(np.stack(frames.stacked(), axis=1))
    found = list(team.collect(own, count))
    return list(torch.cat(found).numpy().swapaxes(0, 1)) if found else []
