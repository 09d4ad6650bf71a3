"""Keep one denoising of a trained model moment by moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ddpm_cli.config.schema.sample import DdimSampler
from ddpm_cli.data.batches import to_uint8
from ddpm_cli.diffusion.sampling import ImageNoise
from ddpm_cli.results.events import Listener, ignore
from ddpm_cli.runs.report import Moment, Trajectory
from ddpm_cli.sampling.bounds import Demand, require_affordable
from ddpm_cli.sampling.file_bounds import Bounds
from ddpm_cli.sampling.generate import generate_samples

if TYPE_CHECKING:
    from torch import Tensor

    from ddpm_cli.sampling.trained_model import TrainedModel

STEPS = 40
MOST_IMAGES = 16
MOST_PIXELS = 128 * 128
"""Of the images of one moment: noise does not compress, and a report holds all moments."""


def draw_trajectory(trained: TrainedModel, bounds: Bounds | None = None, *, on_event: Listener = ignore) -> Trajectory:
    """Denoise the seeds 0, 1, ... by DDIM in up to STEPS steps, the same way for every run.

    Args:
        trained: The model; guidance and threshold are those of its config.
        bounds: On what the model may ask for; the usual ones if None.
        on_event: Told of each denoising step.
    Returns:
        The noise and what each step made of it; up to MOST_IMAGES images, fewer of large ones.
    Raises:
        RequestError: If it would take more time or memory than the bounds allow.
        OutOfMemoryError: If there is no memory for them.
    """
    _, height, width = trained.image_shape
    seeds = range(max(1, min(MOST_IMAGES, MOST_PIXELS // (height * width))))
    sampler = DdimSampler(steps=min(STEPS, trained.schedule.timesteps))
    settings = trained.config.sample.model_copy(update={"sampler": sampler, "batch_size": len(seeds)})
    demand = Demand(
        len(seeds),
        sampler.number_of_steps(trained.schedule.timesteps),
        images_from_file=True,
        fewer="Leave it out (--no-trajectory)",
    )
    require_affordable(trained, settings, demand, bounds, on_event)
    _, levels = settings.prepare(trained.schedule)
    timesteps = [round(trained.schedule.step(level)) for level in levels]
    noise = ImageNoise(seeds, trained.image_shape, "cpu")()
    moments = [Moment(timesteps[0], to_uint8(noise).numpy())]

    def keep(index: int, total: int, x_s: Tensor) -> None:
        t = timesteps[index + 1] if index + 1 < total else -1
        moments.append(Moment(t, to_uint8(x_s).cpu().numpy()))

    for _ in generate_samples(trained, seeds, settings, on_event=on_event, on_frame=keep):
        pass
    drawn = f"seeds 0 to {seeds[-1]}" if len(seeds) > 1 else "seed 0"
    return Trajectory(trained.step, f"DDIM, {len(timesteps)} steps, {drawn}, EMA weights", tuple(moments))
