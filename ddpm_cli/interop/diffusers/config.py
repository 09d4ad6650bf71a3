"""Say our config in the words of diffusers: `UNet2DModel` for the network, one of its schedulers for the schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ddpm_cli.build.network import build_model
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.preset_files import preset_names
from ddpm_cli.config.schema.model import UNetConfig
from ddpm_cli.config.schema.sample import BoundThreshold, ClampThreshold, DdpmSampler, DynamicThreshold, NoThreshold
from ddpm_cli.config.schema.schedule import FlowSchedule
from ddpm_cli.errors import RequestError

if TYPE_CHECKING:
    from ddpm_cli.config.schema.config import Config
    from ddpm_cli.config.schema.sample import SampleConfig
    from ddpm_cli.diffusion.flows import Flow
    from ddpm_cli.diffusion.schedules import NoiseSchedule

PREDICTION_TYPES = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
NO_BOUND = 1e6
"""Of the scale of dynamic thresholding, in diffusers' words; ours has none."""
LEAST_SIGNAL = 2.0**-24
PRESET_SHAPES = {"paper-cifar10": (3, 32, 32)}
FASHION_MNIST_SHAPE = (1, 28, 28)


def unet2d_arguments(model: UNetConfig, shape: tuple[int, int, int]) -> dict[str, Any]:
    """List what `UNet2DModel` is called with to be the network of a `[model]` section, or what comes nearest to it.

    Args:
        model: The section.
        shape: Channels, height and width of the images, which `UNet2DModel` does not pad.
    """
    channels, height, width = shape
    attended = attended_levels(model, height)
    groups = min(norm_groups(model, shape))
    return {
        "sample_size": height if height == width else [height, width],
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": _channels(model),
        "layers_per_block": model.blocks_per_level,
        "down_block_types": ["AttnDownBlock2D" if yes else "DownBlock2D" for yes in attended],
        "up_block_types": ["AttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attended)],
        "add_attention": model.middle_attention,
        "attention_head_dim": _head_channels(model, height),
        "dropout": model.dropout,
        "resnet_time_scale_shift": "scale_shift" if model.scale_shift_norm else "default",
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups,
        "norm_eps": model.norm_eps,
        "downsample_padding": 1 if model.downsample_padding == "symmetric" else 0,
        "freq_shift": 1 if model.time_frequencies == "ddpm" else 0,
        "flip_sin_to_cos": False,
    }


def scheduler_arguments(config: Config, schedule: NoiseSchedule) -> dict[str, Any]:
    """List what `DDPMScheduler` is called with to sample as the run does; DDIM and DPM-Solver++ take over the same.

    Only for a parameterization among PREDICTION_TYPES.
    """
    sampler = config.sample.sampler
    # "auto" stands for fixed-small: a network that learned its variance is not expressible.
    large = isinstance(sampler, DdpmSampler) and sampler.variance == "fixed-large"
    return {
        "num_train_timesteps": schedule.timesteps,
        "trained_betas": _finite_snr_betas(schedule),
        "prediction_type": PREDICTION_TYPES[config.objective.parameterization.kind],
        "variance_type": "fixed_large" if large else "fixed_small",
        "timestep_spacing": "trailing",
        **_threshold_arguments(config.sample),
    }


def flow_arguments(schedule: Flow) -> dict[str, Any]:
    """List what `FlowMatchEulerDiscreteScheduler` is called with to go along the run's straight path; it clips nothing."""
    return {"num_train_timesteps": schedule.timesteps, "shift": schedule.shift}


def solver_overrides(sample: SampleConfig) -> dict[str, Any]:
    """List what `DPMSolverMultistepScheduler` is told besides the scheduler's config: its only way to clip is thresholding."""
    return {"thresholding": True, "sample_max_value": 1.0} if isinstance(sample.threshold, ClampThreshold) else {}


def derives_noise(sample: SampleConfig) -> bool:
    """Tell whether DDIM goes on along the noise that fits the clipped image: diffusers' `use_clipped_model_output`."""
    return isinstance(sample.threshold, BoundThreshold) and sample.threshold.eps == "derived"


def check_expressible(config: Config, shape: tuple[int, int, int]) -> None:
    """Refuse a model that diffusers' `UNet2DModel` and its pipelines for it cannot be.

    Raises:
        RequestError: With all reasons, and the presets that can be exported.
    """
    reasons = inexpressible(config, shape)
    if reasons:
        able = [name for name in preset_names() if not inexpressible(*_preset(name))]
        raise RequestError(
            f"diffusers has no such model: {'; '.join(reasons)}.",
            f"Train one that it has: --preset {' or '.join(able)}, or another with --set model.stem=1. "
            "The formats safetensors, torch-export and onnx take every model.",
        )


def inexpressible(config: Config, shape: tuple[int, int, int]) -> list[str]:
    """Tell why diffusers has no such model; nothing if it has."""
    model, (_, height, width) = config.model, shape
    if not isinstance(model, UNetConfig):
        return [f'its network is a U-Net, not of the kind "{model.kind}" (model.kind)']
    multiple = 2 ** (len(model.channel_mult) - 1)
    parameterization = config.objective.parameterization
    kind = parameterization.kind
    straight = isinstance(config.schedule, FlowSchedule)
    faults = {
        f"its U-Net has no space-to-depth stem (model.stem = {model.stem})": model.stem > 1,
        f"its U-Net does not pad images of {height}x{width} to multiples of {multiple}": bool(
            height % multiple or width % multiple
        ),
        "its pipelines give no class labels (model.num_classes)": model.num_classes is not None,
        "its first convolution has as many channels as the first level (model.channel_mult must start with 1)": (
            model.channel_mult[0] != 1
        ),
        "its norms have one number of groups everywhere (model.norm_groups must divide all channels)": (
            len(norm_groups(model, shape)) > 1
        ),
        f"its heads have one width, not one number (model.attention_heads = {model.attention_heads})": (
            has_uneven_heads(model, height)
        ),
        f"its blocks halve and double by convolutions (model.resampling = {model.resampling})": model.resampling == "residual",
        f"it embeds the step as it is (model.time_scale = {model.time_scale:g})": model.time_scale != 1,
        "it embeds the step as as many numbers as the first level has channels (model.time_channels)": (
            model.time_channels not in (None, model.base_channels)
        ),
        f'its schedulers know no path "{config.schedule.kind}" (schedule.kind)': not (config.schedule.has_betas or straight),
        f'on the straight path its scheduler takes velocities alone, not "{kind}" (objective.parameterization)': (
            straight and kind != "flow"
        ),
        f'its schedulers know no parameterization "{kind}"': not straight and kind not in PREDICTION_TYPES,
        "its schedulers tell a network the step alone (objective.parameterization.level_input)": (
            kind in PREDICTION_TYPES and parameterization.knows_any_level
        ),
        "its DDIM and DPM-Solver++ take no learned variance": config.objective.reverse_variance == "learned-range",
    }
    return [reason for reason, holds in faults.items() if holds]


def _preset(name: str) -> tuple[Config, tuple[int, int, int]]:
    return load_config(preset=name).config, PRESET_SHAPES.get(name, FASHION_MNIST_SHAPE)


def _finite_snr_betas(schedule: NoiseSchedule) -> list[float]:
    """The betas; where no signal is left at the last step, the trace that diffusers' own schedulers leave, for DPM-Solver++."""
    betas = schedule.betas.copy()
    if schedule.alphas_cumprod[-1] == 0.0:
        betas[-1] = 1.0 - LEAST_SIGNAL / schedule.alphas_cumprod[-2]
    return [float(beta) for beta in betas]


def _threshold_arguments(sample: SampleConfig) -> dict[str, Any]:
    match sample.threshold:
        case NoThreshold():
            return {"clip_sample": False}
        case DynamicThreshold(quantile=quantile):
            return {
                "clip_sample": False,
                "thresholding": True,
                "dynamic_thresholding_ratio": quantile,
                "sample_max_value": NO_BOUND,
            }
        case _:
            return {"clip_sample": True}


def _channels(model: UNetConfig) -> list[int]:
    return [model.base_channels * multiple for multiple in model.channel_mult]


def attended_levels(model: UNetConfig, height: int) -> list[bool]:
    """Tell whether each level has attention, for images that are `height` high after padding."""
    return [height // (model.stem * 2**level) in model.attention_resolutions for level in range(len(model.channel_mult))]


def has_uneven_heads(model: UNetConfig, height: int) -> bool:
    """Tell whether the heads, of which there are as many everywhere, are wider in one place than in another."""
    return model.attention_head_channels is None and model.attention_heads > 1 and len(_attended_channels(model, height)) > 1


def norm_groups(model: UNetConfig, shape: tuple[int, int, int]) -> set[int]:
    """List the numbers of groups of the network's norms."""
    with torch.device("meta"):
        network = build_model(model, shape)
    return {module.num_groups for module in network.modules() if isinstance(module, nn.GroupNorm)}


def _attended_channels(model: UNetConfig, height: int) -> set[int]:
    """Numbers of channels that attention works on, in the levels and in the middle."""
    of_levels = {count for count, yes in zip(_channels(model), attended_levels(model, height), strict=True) if yes}
    return of_levels | (set(_channels(model)[-1:]) if model.middle_attention else set())


def _head_channels(model: UNetConfig, height: int) -> int | None:
    """Channels of each head, the fewest if they differ; None for one head whatever the channels."""
    if model.attention_head_channels is not None:
        return model.attention_head_channels
    widths = _attended_channels(model, height)
    return None if model.attention_heads == 1 or not widths else min(widths) // model.attention_heads
