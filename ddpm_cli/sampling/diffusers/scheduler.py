"""Read a stranger's scheduler in the words of our config: what ours cannot say is refused, what ours does otherwise is told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddpm_cli.core.io.files import printable
from ddpm_cli.errors import CheckpointError, RequestError
from ddpm_cli.sampling.diffusers.unet import Settings, are_counts, not_among

# What every class takes for a key that its file leaves out.
DEFAULTS: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}
THRESHOLDING: Mapping[str, Any] = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
CLIPPING: Mapping[str, Any] = {"clip_sample": True, "clip_sample_range": 1.0}
SOLVER: Mapping[str, Any] = {"solver_order": 2, "use_karras_sigmas": False, "timestep_spacing": "linspace"}
ANCESTRAL: Mapping[str, Any] = {"timestep_spacing": "leading", "variance_type": "fixed_small", **CLIPPING, **THRESHOLDING}
IMPLICIT: Mapping[str, Any] = {"timestep_spacing": "leading", **CLIPPING, **THRESHOLDING}


@dataclass(frozen=True)
class Kind:
    """Describe one of diffusers' classes.

    Attributes:
        sampler: Ours.
        reads: Keys beyond DEFAULTS that the class reads, with what it takes if its file leaves them out. A file can hold more, left
            over from the class that it was made from, which mean nothing.
        shorter: Whether its "linspace" and "leading" are n + 1 steps without the last.
        derives: Whether it derives the noise anew from the clipped image.
    """

    sampler: str
    reads: Mapping[str, Any]
    shorter: bool = False
    derives: bool = False


KINDS: Mapping[str, Kind] = {
    "DDPMScheduler": Kind("ddpm", ANCESTRAL),
    "DDPMParallelScheduler": Kind("ddpm", ANCESTRAL),
    "DDIMScheduler": Kind("ddim", IMPLICIT),
    "DDIMParallelScheduler": Kind("ddim", IMPLICIT),
    "DPMSolverMultistepScheduler": Kind(
        "dpm-solver++",
        {**SOLVER, **THRESHOLDING, "algorithm_type": "dpmsolver++", "use_lu_lambdas": False},
        shorter=True,
    ),
    "UniPCMultistepScheduler": Kind("unipc", {**SOLVER, **THRESHOLDING, "solver_type": "bh2"}, shorter=True),
    "EulerDiscreteScheduler": Kind("euler", {"use_karras_sigmas": False, "timestep_spacing": "linspace"}),
    "HeunDiscreteScheduler": Kind(
        "heun",
        {
            "use_karras_sigmas": False,
            "timestep_spacing": "linspace",
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "clip_sample": False,
            "clip_sample_range": 1.0,
        },
        derives=True,
    ),
}
STRAIGHT = "FlowMatchEulerDiscreteScheduler"
"""The class of straight paths, which have no betas."""
OF_STRAIGHT: Mapping[str, Any] = {
    "use_dynamic_shifting": False,
    "shift_terminal": None,
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "stochastic_sampling": False,
}
"""Keys of it that choose its steps alone, or noise in them, and their values that ask for nothing else than what ours does."""
OTHER = Kind("ddim", THRESHOLDING)
"""Any other class: ddim goes along the same path as most of them do."""
PIPELINES = {"DDIMPipeline": "DDIMScheduler"}
"""Pipelines that make a scheduler of their own of the one that they are given."""

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"),
    "prediction_type": ("epsilon", "sample", "v_prediction"),
    "variance_type": (None, "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "solver_order": (1, 2, 3),
    "solver_type": ("bh1", "bh2"),
    "thresholding": (True, False),
    "rescale_betas_zero_snr": (True, False),
}
USUAL: Mapping[str, Any] = {
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "solver_type": None,
    "lower_order_final": True,
    "euler_at_final": False,
    "final_sigmas_type": "zero",
    "lambda_min_clipped": -math.inf,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_flow_sigmas": False,
    "predict_x0": True,
    "disable_corrector": [],
    "solver_p": None,
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "sigma_min": None,
    "sigma_max": None,
}
"""Keys that ours has no setting for, and their values that ask for nothing else than what ours does."""
SOLVER_TYPES = {"dpm-solver++": "midpoint"}
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
PARAMETERIZATIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
HARDLY_A_BOUND = 100.0


def scheduler_class(scheduler: Mapping[str, Any], index: Mapping[str, Any], source: Path) -> str:
    """Find the class that samples: the pipeline's index decides, as in diffusers, and the scheduler's own file after it.

    Args:
        scheduler: Its scheduler_config.json.
        index: The pipeline's model_index.json; empty if there is none.
        source: The scheduler's file, for errors.
    Raises:
        CheckpointError: If neither names one.
    """
    named = index.get("scheduler")
    library_and_class = named if isinstance(named, list) and len(named) == 2 else [None, None]
    own = PIPELINES.get(str(index.get("_class_name")))
    name = own or library_and_class[1] or scheduler.get("_class_name")
    if not isinstance(name, str):
        raise CheckpointError(f"{source} does not name its scheduler.", "It is damaged: download it again.")
    return name


def read_scheduler(scheduler: Mapping[str, Any], name: str, source: Path) -> tuple[Settings, tuple[str, ...]]:
    """Read the settings of schedule, objective and sampling of a scheduler.

    Args:
        scheduler: Its scheduler_config.json.
        name: Its class, see scheduler_class.
        source: That file, for errors.
    Returns:
        The settings; and sentences on what is sampled otherwise here.
    Raises:
        CheckpointError: If it is none.
        RequestError: If ours cannot be that schedule; with all reasons.
    """
    if name == STRAIGHT:
        return _read_straight(scheduler, source)
    kind = KINDS.get(name, OTHER)
    reads = {**DEFAULTS, **kind.reads}
    given = {**reads, **{key: value for key, value in scheduler.items() if key in reads}}
    if name not in KINDS and not ({"beta_schedule", "trained_betas"} & scheduler.keys()):
        raise RequestError(
            f"{source} describes a {printable(name)}, which does not say by which betas its network was trained.",
            f"A model with a noise schedule of betas can be imported, or with a {STRAIGHT}.",
        )
    _check_numbers(given, source)
    faults = [*not_among(given, {key: CHOICES[key] for key in CHOICES if key in given}), *_unfit_bounds(given)]
    if faults:
        raise RequestError(f"ddpm has no schedule as {source} describes it: {'; '.join(faults)}.", "Another model can be imported.")
    settings: Settings = {
        **_schedule(given),
        "objective.parameterization.kind": PARAMETERIZATIONS[given["prediction_type"]],
        "sample.sampler.kind": kind.sampler,
        **_sampler(given, kind),
        **_threshold(given, kind),
    }
    return settings, tuple(_differences(scheduler, given, name, kind))


def _read_straight(scheduler: Mapping[str, Any], source: Path) -> tuple[Settings, tuple[str, ...]]:
    """Those of a straight path, x_t = (1 - t) x_0 + t eps, whose network predicts the velocity and is told T * t, shifted."""
    timesteps, shift = scheduler.get("num_train_timesteps", 1000), scheduler.get("shift", 1.0)
    if not are_counts([timesteps]) or not _is_number(shift) or shift <= 0:
        raise CheckpointError(f"{source} does not say what its path is.", "It is damaged: download it again.")
    if scheduler.get("invert_sigmas"):
        message = f"ddpm has no path as {source} describes it: its time runs from image to noise (invert_sigmas)."
        raise RequestError(message, "Another model can be imported.")
    settings: Settings = {
        "schedule.kind": "flow",
        "schedule.timesteps": timesteps,
        "schedule.shift": shift,
        "objective.parameterization.kind": "flow",
        "sample.sampler.kind": "euler",
        "sample.sampler.spacing.kind": "linspace",
        "sample.threshold.kind": "none",
    }
    return settings, tuple(_differences_of_straight(scheduler, shift))


def _differences_of_straight(scheduler: Mapping[str, Any], shift: float) -> Iterator[str]:
    if shift != 1:
        yield f"Its shift is {shift:g}, which moves its last level twice there, and once here."
    if unlike := [key for key, usual in OF_STRAIGHT.items() if scheduler.get(key, usual) != usual]:
        yield _left_out(scheduler, unlike)


def _left_out(scheduler: Mapping[str, Any], keys: Sequence[str]) -> str:
    told = ", ".join(f"{key} = {printable(str(scheduler[key]))}" for key in keys)
    return f"Settings of its scheduler that have no counterpart here were left out: {told}."


def _check_numbers(given: Mapping[str, Any], source: Path) -> None:
    numbers = ("beta_start", "beta_end", "dynamic_thresholding_ratio", "sample_max_value", "clip_sample_range")
    if not are_counts([given["num_train_timesteps"]]) or not all(_is_number(given.get(key, 0)) for key in numbers):
        raise CheckpointError(f"{source} does not say what its schedule is.", "It is damaged: download it again.")


def _unfit_bounds(given: Mapping[str, Any]) -> Iterator[str]:
    if given.get("thresholding") and 1 < given["sample_max_value"] < HARDLY_A_BOUND:
        yield f"sample_max_value is {given['sample_max_value']}, which is 1 or no bound here"
    if given.get("clip_sample") and not given.get("thresholding") and given["clip_sample_range"] != 1:
        yield f"clip_sample_range is {given['clip_sample_range']}, which is 1 here"


def _schedule(given: Mapping[str, Any]) -> Settings:
    timesteps = given["num_train_timesteps"]
    common = {"schedule.timesteps": timesteps, "schedule.zero_terminal_snr": given["rescale_betas_zero_snr"]}
    if given["trained_betas"] is not None:
        return common | {"schedule.kind": "table", "schedule.betas": given["trained_betas"]}
    kind = SCHEDULES[given["beta_schedule"]]
    if kind == "cosine":
        return common | {"schedule.kind": kind}
    scale = timesteps / 1000  # ours are given for T = 1000, and scaled
    start, end = given["beta_start"] * scale, given["beta_end"] * scale
    return common | {"schedule.kind": kind, "schedule.beta_start": start, "schedule.beta_end": end}


def _sampler(given: Mapping[str, Any], kind: Kind) -> Settings:
    settings: Settings = {}
    if "timestep_spacing" in given:
        settings["spacing.kind"] = _spacing(given, kind)
    if "solver_order" in given:
        settings["order"] = given["solver_order"]
    if given.get("solver_type") in ("bh1", "bh2"):
        settings["variant"] = given["solver_type"]
    if given.get("algorithm_type") == "sde-dpmsolver++":
        settings["sde"] = True
    if "variance_type" in given:
        settings["variance"] = "fixed-large" if "large" in str(given["variance_type"]) else "fixed-small"
    return {f"sample.sampler.{key}": value for key, value in settings.items()}


def _spacing(given: Mapping[str, Any], kind: Kind) -> str:
    if given.get("use_karras_sigmas"):
        return "karras"
    if given.get("use_lu_lambdas"):
        return "logsnr"
    spacing: str = given["timestep_spacing"]
    return "trailing" if kind.shorter and spacing == "linspace" else spacing


def _threshold(given: Mapping[str, Any], kind: Kind) -> Settings:
    """Bounds of the image as the class has them, and what becomes of the noise."""
    eps = "derived" if kind.derives else "predicted"
    if given.get("thresholding") and given["sample_max_value"] > 1:
        bounds: Settings = {"kind": "dynamic", "quantile": given["dynamic_thresholding_ratio"], "eps": eps}
    elif given.get("thresholding") or given.get("clip_sample"):
        bounds = {"kind": "clamp", "eps": eps}
    else:
        bounds = {"kind": "none"}
    return {f"sample.threshold.{key}": value for key, value in bounds.items()}


def _differences(scheduler: Mapping[str, Any], given: Mapping[str, Any], name: str, kind: Kind) -> Iterator[str]:
    """What is sampled otherwise here."""
    if name not in KINDS:
        yield f"Its scheduler is {printable(name)}, which is none of the samplers here: it is sampled with {kind.sampler}."
    if given.get("algorithm_type", "dpmsolver++") not in ("dpmsolver++", "sde-dpmsolver++"):
        yield f"Its algorithm_type is {printable(str(given['algorithm_type']))}; it is sampled with dpmsolver++ here."
    if given.get("solver_order") == 3 and kind.sampler == "dpm-solver++":
        yield "Its solver_order is 3, which has half of the second derivative there, and the whole of it here."
    spacing = given.get("timestep_spacing")
    if spacing == "leading":
        yield 'Its timestep_spacing is "leading", which begins below T-1 with fewer than T steps; here every list begins at T-1.'
    if spacing == "linspace" and kind.shorter:
        yield 'Its timestep_spacing is "linspace", of which trailing steps are the nearest here.'
    usual: dict[str, Any] = {**USUAL, "solver_type": SOLVER_TYPES.get(kind.sampler)}
    unlike = [key for key in usual if key in scheduler and usual[key] is not None and scheduler[key] != usual[key]]
    unlike += [key for key in usual if usual[key] is None and scheduler.get(key) is not None and key != "solver_type"]
    if unlike:
        yield _left_out(scheduler, unlike)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
