"""Write a folder that diffusers loads: a U-Net as a whole pipeline, a transformer and its scheduler one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save
from torch import Tensor

from ddpm_cli.config.schema.model import DitConfig, UNetConfig
from ddpm_cli.config.schema.sample import DdimSampler, DdpmSampler, DpmSolverSampler, GuidanceConfig, LinspaceSpacing, OwnPath
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
from ddpm_cli.interop.diffusers.dit import dit_arguments, to_dit
from ddpm_cli.interop.model_card import model_card
from ddpm_cli.interop.same_noise import MOST_STEPS, Denoiser, few_steps, prediction_difference, sample_from, seeded_noise
from ddpm_cli.results.interchange import Comparison
from ddpm_cli.sampling.diffusers.unet2d_names import to_unet2d
from ddpm_cli.sampling.trained_model import guided_predictor

if TYPE_CHECKING:
    from ddpm_cli.config.schema.sample import SamplerConfig
    from ddpm_cli.interop.registry import ExportOptions
    from ddpm_cli.sampling.trained_model import TrainedModel

UNET, TRANSFORMER = "unet", "transformer"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
WEIGHTS = Path(UNET) / WEIGHTS_FILE
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
    scheduler = _scheduler(trained)
    with torch.device("meta"):
        place, network, weights = _network(trained)
    network.save_config(folder / place)
    scheduler.save_config(folder / "scheduler")
    if place == UNET:
        diffusers.DDPMPipeline(unet=network, scheduler=scheduler).save_config(folder)
    dtype = torch.float16 if half else torch.float32
    stored = {name: tensor.to(dtype, copy=True).contiguous() for name, tensor in weights.items()}  # the file takes no ties
    write_new(
        folder / place / WEIGHTS_FILE, save(stored, metadata={"format": "pt", "ddpm_dtype": str(dtype).removeprefix("torch.")})
    )
    write_new(folder / "README.md", model_card(trained, license_name, half=half))


def _network(trained: TrainedModel) -> tuple[str, Any, dict[str, Tensor]]:
    """What the folder of the network is called, the network without weights, and the weights by its names."""
    diffusers, model, shape, weights = _diffusers(), trained.config.model, trained.image_shape, trained.network.state_dict()
    if isinstance(model, DitConfig):
        return TRANSFORMER, diffusers.DiTTransformer2DModel(**dit_arguments(model, shape)), to_dit(weights)
    assert isinstance(model, UNetConfig)  # else it is not expressible
    return UNET, diffusers.UNet2DModel(**unet2d_arguments(model, shape)), to_unet2d(weights)


def compare_diffusers(trained: TrainedModel, folder: Path, *, images: bool) -> list[Comparison]:
    """Compare what diffusers makes of the folder with what we make of the model: predictions and, if asked for, images."""
    predict, scheduler = _load(folder)
    found = [Comparison("prediction", prediction_difference(trained, predict), PREDICTION_TOLERANCE)]
    compare = _compare_flow if isinstance(trained.schedule, Flow) else _compare_images
    return found + (compare(_as_diffusers_samples(trained), predict, scheduler) if images else [])


def _load(folder: Path) -> tuple[Denoiser, Any]:
    """The network of the folder, called as ours is, and its scheduler."""
    if (folder / TRANSFORMER).is_dir():
        transformer, scheduler = load_transformer(folder)
        return _predictor_of(transformer), scheduler
    pipeline = load_pipeline(folder)
    unet = pipeline.unet.float()
    return (lambda x, t: unet(x, t).sample), pipeline.scheduler


def _predictor_of(transformer: Any) -> Denoiser:
    def predict(x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        only = torch.zeros(len(x), dtype=torch.int64) if labels is None else labels
        result: Tensor = transformer(x, t.expand(len(x)), only).sample
        return result

    return predict


def load_transformer(folder: Path) -> tuple[Any, Any]:
    """Load the folder as diffusers' `DiTTransformer2DModel` and its scheduler; nothing is downloaded."""
    diffusers = _diffusers()
    with text_alias(folder) as alias:
        of_folder = {"pretrained_model_name_or_path": alias, "local_files_only": True}
        transformer = diffusers.DiTTransformer2DModel.from_pretrained(**of_folder, subfolder=TRANSFORMER)
        kind = diffusers.DDPMScheduler.load_config(alias, local_files_only=True, subfolder="scheduler")["_class_name"]
        return transformer.float().eval(), getattr(diffusers, kind).from_pretrained(**of_folder, subfolder="scheduler")


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


def _as_diffusers_samples(trained: TrainedModel) -> TrainedModel:
    """The model without guidance, which a scheduler alone does not compute, and along its own path: they know no other."""
    sample = trained.config.sample.model_copy(update={"path": OwnPath(), "guidance": GuidanceConfig()})
    return replace(trained, config=trained.config.model_copy(update={"sample": sample}))


def _compare_flow(trained: TrainedModel, predict: Denoiser, scheduler: Any) -> list[Comparison]:
    """Images by Euler's method along the straight path, at the levels that diffusers chooses, without a threshold as there."""
    steps = few_steps(trained.schedule.timesteps)
    scheduler.set_timesteps(steps)
    sigmas = scheduler.sigmas[:-1].double().tolist()
    levels = [trained.schedule.level_of_ratio(sigma / (1.0 - sigma) if sigma < 1.0 else math.inf) for sigma in sigmas]
    labels = _labels(trained)
    denoise = make_denoise(guided_predictor(trained, trained.config.sample), trained.schedule, labels=labels, threshold=None)
    x_T = seeded_noise((IMAGES, *trained.image_shape), 0)()
    expected = sample(denoise, ddim(), levels, x_T, seeded_noise(x_T.shape, 1))
    found = sample_diffusers(_of_labels(predict, labels), scheduler, steps, x_T, 1, {})
    return [Comparison(f"images of Euler, {steps} steps", float((found - expected).abs().max()), IMAGE_TOLERANCE)]


def _labels(trained: TrainedModel) -> Tensor | None:
    return None if trained.num_classes is None else torch.arange(IMAGES) % trained.num_classes


def _of_labels(predict: Denoiser, labels: Tensor | None) -> Denoiser:
    return predict if labels is None else partial(predict, labels=labels)


def _compare_images(trained: TrainedModel, predict: Denoiser, scheduler: Any) -> list[Comparison]:
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
    return [_compare_sampler(trained, name, ours, predict, theirs, extra) for name, ours, theirs, extra in pairs]


def _compare_sampler(
    trained: TrainedModel, name: str, ours: SamplerConfig, predict: Denoiser, scheduler: Any, extra: dict[str, Any]
) -> Comparison:
    shape = (IMAGES, *trained.image_shape)
    x_T = seeded_noise(shape, 0)()
    labels = _labels(trained)
    expected = sample_from(trained, ours, x_T, seeded_noise(shape, 1), labels)
    found = sample_diffusers(
        _of_labels(predict, labels), scheduler, ours.number_of_steps(trained.schedule.timesteps), x_T, 1, extra
    )
    label = f"images of {name}, {ours.number_of_steps(trained.schedule.timesteps)} steps"
    return Comparison(label, float((found - expected).abs().max()), IMAGE_TOLERANCE)


@torch.no_grad()
def sample_diffusers(predict: Denoiser, scheduler: Any, steps: int, x_T: Tensor, seed: int, extra: dict[str, Any]) -> Tensor:
    """Sample images by one of diffusers' schedulers, from x_T; `extra` goes to the scheduler's step.

    Args:
        predict: The network, called with images and one step for all of them.
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
        x = scheduler.step(predict(x, t), t, x, generator=generator, **extra).prev_sample
    return x


def _diffusers() -> Any:
    """The library, which takes seconds to import."""
    require_packages("The format diffusers", "interop", "diffusers")
    import diffusers

    return diffusers
