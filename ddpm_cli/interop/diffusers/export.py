"""Write a folder that diffusers' `DDPMPipeline` and `DDIMPipeline` load."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from ddpm_cli.config.schema.model import UNetConfig
from ddpm_cli.config.schema.sample import DdimSampler, DdpmSampler, DpmSolverSampler, LinspaceSpacing, OwnPath
from ddpm_cli.core.extras import require_packages
from ddpm_cli.core.io.files import write_new
from ddpm_cli.core.io.paths import text_alias
from ddpm_cli.diffusion.denoise import make_denoise
from ddpm_cli.diffusion.flows import Flow
from ddpm_cli.diffusion.samplers.ddim import ddim
from ddpm_cli.diffusion.sampling import sample
from ddpm_cli.diffusion.schedules import as_table
from ddpm_cli.interop.diffusers.config import (
    check_expressible,
    derives_noise,
    flow_arguments,
    scheduler_arguments,
    solver_overrides,
    unet2d_arguments,
)
from ddpm_cli.interop.model_card import model_card
from ddpm_cli.interop.same_noise import MOST_STEPS, few_steps, prediction_difference, sample_from, seeded_noise
from ddpm_cli.results.interchange import Comparison
from ddpm_cli.sampling.diffusers.unet2d_names import to_unet2d
from ddpm_cli.sampling.trained_model import guided_predictor

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SamplerConfig
    from ddpm_cli.interop.registry import ExportOptions
    from ddpm_cli.sampling.trained_model import TrainedModel

WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"
PREDICTION_TOLERANCE = 1e-4
IMAGE_TOLERANCE = 1e-3
IMAGES = 2


def write(trained: TrainedModel, folder: Path, options: ExportOptions) -> list[Comparison]:
    """Write the folder, load it with diffusers, and compare what it makes with ours; images too with `options.check`."""
    write_diffusers(trained, folder, options.license_name, half=options.half)
    return compare_diffusers(trained, folder, images=options.check)


def write_diffusers(trained: TrainedModel, folder: Path, license_name: str, *, half: bool) -> None:
    """Fill a new folder.

    Args:
        trained: The model.
        folder: Empty.
        license_name: Of the weights, for the model card.
        half: Whether the weights are stored as float16.
    Raises:
        RequestError: If diffusers is missing or has no such model.
        OSError: If the disk takes no more.
    """
    check_expressible(trained.config, trained.image_shape)
    diffusers = _diffusers()
    model = trained.config.model
    assert isinstance(model, UNetConfig)  # else it is not expressible
    with torch.device("meta"):
        unet = diffusers.UNet2DModel(**unet2d_arguments(model, trained.image_shape))
    scheduler = _scheduler(trained)
    unet.save_config(folder / "unet")
    scheduler.save_config(folder / "scheduler")
    diffusers.DDPMPipeline(unet=unet, scheduler=scheduler).save_config(folder)
    dtype = torch.float16 if half else torch.float32
    weights = {name: tensor.to(dtype).contiguous() for name, tensor in to_unet2d(trained.network.state_dict()).items()}
    write_new(folder / WEIGHTS, save(weights, metadata={"format": "pt", "ddpm_dtype": str(dtype).removeprefix("torch.")}))
    write_new(folder / "README.md", model_card(trained, license_name, half=half))


def compare_diffusers(trained: TrainedModel, folder: Path, *, images: bool) -> list[Comparison]:
    """Compare what diffusers makes of the folder with what we make of the model: predictions and, if asked for, images."""
    pipeline = load_pipeline(folder)
    unet = pipeline.unet.float()
    difference = prediction_difference(trained, lambda x, t: unet(x, t).sample)
    found = [Comparison("prediction", difference, PREDICTION_TOLERANCE)]
    if not images:
        return found
    is_flow = isinstance(trained.schedule, Flow)
    return found + (_compare_flow if is_flow else _compare_images)(_on_own_path(trained), unet, pipeline.scheduler)


def load_pipeline(folder: Path) -> Any:
    """Load the folder as diffusers' `DDPMPipeline`; nothing is downloaded."""
    diffusers = _diffusers()
    diffusers.utils.logging.disable_progress_bar()
    with text_alias(folder) as alias:
        return diffusers.DDPMPipeline.from_pretrained(alias, local_files_only=True)


def _scheduler(trained: TrainedModel) -> Any:
    diffusers = _diffusers()
    if isinstance(trained.schedule, Flow):
        return diffusers.FlowMatchEulerDiscreteScheduler(**flow_arguments(trained.schedule))
    return diffusers.DDPMScheduler(**scheduler_arguments(trained.config, as_table(trained.schedule)))


def _on_own_path(trained: TrainedModel) -> TrainedModel:
    """The model as diffusers samples it, whose schedulers know no other path."""
    sample = trained.config.sample.model_copy(update={"path": OwnPath()})
    return replace(trained, config=trained.config.model_copy(update={"sample": sample}))


def _compare_flow(trained: TrainedModel, unet: Any, scheduler: Any) -> list[Comparison]:
    """Images by Euler's method along the straight path, at the levels that diffusers chooses, without a threshold as there."""
    steps = few_steps(trained.schedule.timesteps)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas[:-1].double().tolist()
    levels = [trained.schedule.level_of_ratio(sigma / (1.0 - sigma) if sigma < 1.0 else math.inf) for sigma in sigmas]
    denoise = make_denoise(guided_predictor(trained, trained.config.sample), trained.schedule, threshold=None)
    x_T = seeded_noise((IMAGES, *trained.image_shape), 0)()
    expected = sample(denoise, ddim(), levels, x_T, seeded_noise(x_T.shape, 1))
    found = sample_diffusers(unet, scheduler, steps, x_T, 1, {})
    return [Comparison(f"images of Euler, {steps} steps", float((found - expected).abs().max()), IMAGE_TOLERANCE)]


def _compare_images(trained: TrainedModel, unet: Any, scheduler: Any) -> list[Comparison]:
    """Images by the three samplers; each is told what the model card tells its reader."""
    diffusers, settings = _diffusers(), scheduler.config
    steps, ancestral_steps = few_steps(trained.schedule.timesteps), min(MOST_STEPS, trained.schedule.timesteps)
    sampler = trained.config.sample.sampler
    variance = sampler.variance if isinstance(sampler, DdpmSampler) else "fixed-small"
    # With "fixed_large" diffusers adds noise in the last step, unless that is step 0, which linspace always visits.
    ddpm = diffusers.DDPMScheduler.from_config(settings, timestep_spacing="linspace")
    solver = diffusers.DPMSolverMultistepScheduler.from_config(settings, **solver_overrides(trained.config.sample))
    clipping = {"use_clipped_model_output": derives_noise(trained.config.sample)}
    pairs: list[tuple[str, SamplerConfig, Any, dict[str, Any]]] = [
        ("DDPM", DdpmSampler(steps=ancestral_steps, variance=variance, spacing=LinspaceSpacing()), ddpm, {}),
        ("DDIM", DdimSampler(steps=steps), diffusers.DDIMScheduler.from_config(settings), clipping),
        ("DPM-Solver++", DpmSolverSampler(steps=steps), solver, {}),
    ]
    return [_compare_sampler(trained, name, ours, unet, theirs, extra) for name, ours, theirs, extra in pairs]


def _compare_sampler(
    trained: TrainedModel, name: str, ours: SamplerConfig, unet: Any, scheduler: Any, extra: dict[str, Any]
) -> Comparison:
    shape = (IMAGES, *trained.image_shape)
    x_T = seeded_noise(shape, 0)()
    expected = sample_from(trained, ours, x_T, seeded_noise(shape, 1))
    found = sample_diffusers(unet, scheduler, ours.number_of_steps(trained.schedule.timesteps), x_T, 1, extra)
    label = f"images of {name}, {ours.number_of_steps(trained.schedule.timesteps)} steps"
    return Comparison(label, float((found - expected).abs().max()), IMAGE_TOLERANCE)


@torch.no_grad()
def sample_diffusers(unet: Any, scheduler: Any, steps: int, x_T: Tensor, seed: int, extra: dict[str, Any]) -> Tensor:
    """Sample images of a `UNet2DModel` by one of diffusers' schedulers, from x_T; `extra` goes to the scheduler's step.

    Args:
        unet: The network.
        scheduler: Of its kind.
        steps: How many.
        x_T: Noise, [B, C, H, W].
        seed: Of the noise that DDPM adds.
        extra: For the scheduler's `step`.
    """
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(steps)
    x = x_T
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t).sample, t, x, generator=generator, **extra).prev_sample
    return x


def _diffusers() -> Any:
    """The library, which takes seconds to import."""
    require_packages("The format diffusers", "interop", "diffusers")
    import diffusers

    return diffusers
