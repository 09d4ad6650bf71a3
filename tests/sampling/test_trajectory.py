from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ddpm_cli.config.schema.sample import DdimSampler
from ddpm_cli.data.batches import to_uint8
from ddpm_cli.diffusion.sampling import ImageNoise
from ddpm_cli.sampling.generate import generate_samples, load_trained
from ddpm_cli.sampling.trajectory import MOST_IMAGES, STEPS, draw_trajectory


def test_a_trajectory_goes_from_the_noise_of_its_seeds_to_the_images_that_sample_draws(trained_folder: Path) -> None:
    trained = load_trained(trained_folder / "runs" / "tiny", torch.device("cpu"))
    trajectory = draw_trajectory(trained)
    steps = [moment.t for moment in trajectory.moments]
    assert len(steps) == STEPS + 1
    assert steps == sorted(set(steps), reverse=True)
    assert (steps[0], steps[-1]) == (trained.schedule.timesteps - 1, -1)
    noise = ImageNoise(range(MOST_IMAGES), trained.image_shape, "cpu")()
    assert np.array_equal(trajectory.moments[0].images, to_uint8(noise).numpy())
    settings = trained.config.sample.model_copy(update={"sampler": DdimSampler(steps=STEPS)})
    drawn = torch.cat(list(generate_samples(trained, range(MOST_IMAGES), settings))).numpy()
    assert np.array_equal(trajectory.moments[-1].images, drawn)
