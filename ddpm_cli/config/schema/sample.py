"""Describe the config's `[sample]`: every sampler, spacing of its steps, threshold, and guidance."""

from __future__ import annotations

import math
from abc import abstractmethod
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ddpm_cli.config.schema.section import Choice, OneOf, PositiveInt, Section, kind_alone
from ddpm_cli.diffusion.variances import ModelVariance
from ddpm_cli.errors import ConfigError, ScheduleError

if TYPE_CHECKING:
    from ddpm_cli.diffusion.denoise import Predict, Threshold
    from ddpm_cli.diffusion.levels import Level, Schedule
    from ddpm_cli.diffusion.paths import Path
    from ddpm_cli.diffusion.samplers.churn import Churn
    from ddpm_cli.diffusion.sampling import Step

MOST_PICTURE_PIXELS = 178_956_970
"""Of a picture of many images: of more Pillow opens none, as it takes them for an attack."""

MAX_FRAMES = 60
"""Moments that are kept of a denoising."""


class SpacingBase(Choice):
    """Space the steps of a sampler."""

    @abstractmethod
    def build(self, schedule: Schedule, steps: int) -> list[Level]:
        """Build the levels of noise that a sampler of so many steps visits."""


class EvenSpacing(SpacingBase):
    kind: Literal["leading", "trailing", "linspace"]

    def build(self, schedule: Schedule, steps: int) -> list[Level]:
        """Build the levels of noise that a sampler of so many steps visits."""
        from ddpm_cli.diffusion.timesteps import even_levels

        return even_levels(schedule, steps, self.kind)


class LeadingSpacing(EvenSpacing):
    """Take whole multiples of T // n, with the largest replaced by T-1 (Lin et al. 2024, Table 2)."""

    kind: Literal["leading"] = "leading"


class TrailingSpacing(EvenSpacing):
    """Space evenly from T-1 down, and end T / n above clean data (Lin et al. 2024, Table 2)."""

    kind: Literal["trailing"] = "trailing"


class LinspaceSpacing(EvenSpacing):
    """Space evenly from T-1 to 0 (Lin et al. 2024, Table 2)."""

    kind: Literal["linspace"] = "linspace"


class SpacingByNoise(SpacingBase):
    max_sigma: float | None = Field(
        164.0,
        gt=0,
        description="Steps after T-1 are spaced as if the schedule ended at this sigma. none takes its own largest.",
    )


class LogsnrSpacing(SpacingByNoise):
    """Space evenly in log SNR from T-1 to 0 (Lu et al. 2022, DPM-Solver)."""

    kind: Literal["logsnr"] = "logsnr"

    def build(self, schedule: Schedule, steps: int) -> list[Level]:
        """Build the levels of noise that a sampler of so many steps visits."""
        from ddpm_cli.diffusion.timesteps import logsnr_levels

        return logsnr_levels(schedule, steps, max_sigma=self.max_sigma)


class KarrasSpacing(SpacingByNoise):
    """Space evenly in sigma^(1/rho) from T-1 to 0 (Karras et al. 2022, Eq. 5)."""

    kind: Literal["karras"] = "karras"
    rho: float = Field(7.0, ge=1, le=100, description="The larger, the more steps at low noise.")

    def build(self, schedule: Schedule, steps: int) -> list[Level]:
        """Build the levels of noise that a sampler of so many steps visits."""
        from ddpm_cli.diffusion.timesteps import karras_levels

        return karras_levels(schedule, steps, rho=self.rho, max_sigma=self.max_sigma)


class ListSpacing(SpacingBase):
    """Take the very steps of a list. sample.timesteps = [999, 700, 400, 100] is short for it."""

    kind: Literal["list"] = "list"
    timesteps: tuple[int, ...] | None = Field(
        None,
        min_length=1,
        max_length=100_000,
        description="Strictly descending steps. At T-1 images are noise. 0 is the lowest.",
    )

    def build(self, schedule: Schedule, steps: int) -> list[Level]:
        """Build the levels of the listed steps.

        Raises:
            ScheduleError: If none are listed, or one is no step of the schedule.
        """
        if self.timesteps is None:
            raise ScheduleError('Steps of the spacing "list" must be listed.', "Name them: --set sample.timesteps=[999, 700, 400]")
        return [schedule.at(t) for t in self.timesteps]

    @field_validator("timesteps")
    @classmethod
    def _descend(cls, timesteps: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if timesteps is None:
            return None
        if timesteps[-1] < 0 or any(s >= t for t, s in pairwise(timesteps)):
            raise ValueError("must be strictly descending steps that are not negative, such as [999, 700, 400, 100]")
        return timesteps


SpacingConfig = Annotated[
    SpacingBase, OneOf("ddpm.spacings", LeadingSpacing, TrailingSpacing, LinspaceSpacing, LogsnrSpacing, KarrasSpacing, ListSpacing)
]


class SamplerBase(Choice):
    """Sample along some levels of noise."""

    usual_steps: ClassVar[int | None] = None
    steps: PositiveInt | None = Field(
        None,
        description="Steps to visit. Most samplers evaluate the network once in each; heun does so twice, but for the last step. "
        "If unset: the sampler's own number, which `ddpm ls samplers` lists, but never more than T.",
    )
    spacing: SpacingConfig = Field(TrailingSpacing(), description="Which steps a short sampler visits. Each spacing starts at T-1.")

    @abstractmethod
    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step for one trajectory of so many steps, of which it may hold the history."""

    def prepare(self, schedule: Schedule) -> tuple[Step, list[Level]]:
        """Build the step and the levels that it visits; it may hold the history of its trajectory: prepare one for each."""
        levels = self.spacing.build(schedule, self.number_of_steps(schedule.timesteps))
        return self.build(schedule, len(levels)), levels

    def number_of_steps(self, timesteps: int) -> int:
        """Count the steps visited under a schedule of T = `timesteps` steps."""
        if isinstance(self.spacing, ListSpacing) and self.spacing.timesteps:
            return len(self.spacing.timesteps)
        return self.steps or min(self.usual_steps or timesteps, timesteps)

    def evaluations(self, timesteps: int) -> int:
        """Count network evaluations, at most, under a schedule of T = `timesteps` steps."""
        return self.number_of_steps(timesteps)

    @model_validator(mode="after")
    def _steps_of_the_list(self) -> SamplerBase:
        listed = self.spacing.timesteps if isinstance(self.spacing, ListSpacing) else None
        if listed and self.steps not in (None, len(listed)):
            raise ValueError(f"steps is {self.steps}, but the list of steps has {len(listed)}; leave steps out")
        return self


class DdpmSampler(SamplerBase):
    """Sample ancestrally (Ho et al. 2020, Alg. 2), respaced if steps < T (Nichol & Dhariwal 2021)."""

    kind: Literal["ddpm"] = "ddpm"
    variance: Literal["auto", ModelVariance] = Field(
        "auto",
        description="Variance of a step: beta-tilde, beta (Ho et al. 2020, Sec. 3.2), or what a network with learned variance "
        "says. auto is the last for such networks, beta-tilde for others.",
    )

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step."""
        from ddpm_cli.diffusion.samplers.ddpm import ddpm

        return ddpm(variance=self.variance)


class DdimSampler(SamplerBase):
    """Sample by denoising diffusion implicit models (Song et al. 2021, Eq. 12)."""

    kind: Literal["ddim"] = "ddim"
    usual_steps: ClassVar[int | None] = 50
    eta: float = Field(0.0, ge=0, le=1, description="0 is deterministic. 1 has DDPM's posterior variance.")

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step."""
        from ddpm_cli.diffusion.samplers.ddim import ddim

        return ddim(eta=self.eta)


class ChurnedSampler(SamplerBase):
    s_churn: float = Field(0.0, ge=0, description="Noise that is added over all steps. 0 is deterministic.")
    s_min: float = Field(0.0, ge=0, description="Noise is added only from this sigma = sqrt((1-abar)/abar) on.")
    s_max: float | None = Field(None, ge=0, description="Noise is added only up to this sigma. none sets no limit.")
    s_noise: float = Field(1.0, ge=0, le=10, description="Standard deviation of the added noise.")

    def churn(self, schedule: Schedule, steps: int) -> Churn:
        """Build the noise that is added before each of so many steps."""
        from ddpm_cli.diffusion.samplers.churn import Churn, churn_share

        s_max = math.inf if self.s_max is None else self.s_max
        return Churn(schedule.level_of_ratio, churn_share(steps, self.s_churn), self.s_min, s_max, self.s_noise)


class EulerSampler(ChurnedSampler):
    """Follow Euler's method in sigma, with churn (Karras et al. 2022, Alg. 2, first order). Without churn it is ddim."""

    kind: Literal["euler"] = "euler"
    usual_steps: ClassVar[int | None] = 50

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step."""
        from ddpm_cli.diffusion.samplers.euler import euler

        return euler(churn=self.churn(schedule, steps))


class HeunSampler(ChurnedSampler):
    """Follow Heun's method, with churn (Karras et al. 2022, Alg. 2). n steps are 2n - 1 network evaluations."""

    kind: Literal["heun"] = "heun"
    usual_steps: ClassVar[int | None] = 20
    along: Literal["auto", "sigma", "path"] = Field(
        "auto",
        description="What a step is straight in: sigma = noise over signal (Karras et al. 2022), or image and noise themselves, as "
        "flow matching steps in t. auto is path for schedules without betas, else sigma.",
    )

    def line(self, schedule: Schedule) -> Literal["sigma", "path"]:
        """Resolve what is "auto" in `along`."""
        if self.along == "auto":
            return "path" if schedule.is_continuous else "sigma"
        return self.along

    def evaluations(self, timesteps: int) -> int:
        """Count network evaluations, at most, under a schedule of T = `timesteps` steps."""
        return 2 * self.number_of_steps(timesteps) - 1

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step."""
        from ddpm_cli.diffusion.samplers.heun import heun

        return heun(churn=self.churn(schedule, steps), along=self.line(schedule))


class DpmSolverSampler(SamplerBase):
    """Solve by multistep DPM-Solver++ (Lu et al. 2022)."""

    kind: Literal["dpm-solver++"] = "dpm-solver++"
    usual_steps: ClassVar[int | None] = 20
    order: Literal[1, 2, 3] = Field(2, description="Order of the solver. 1 equals ddim.")
    sde: bool = Field(False, description="Solve the reverse SDE, with fresh noise in each step.")

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step for one trajectory, whose last estimates it keeps."""
        from ddpm_cli.diffusion.samplers.dpm_solver import dpm_solver

        return dpm_solver(order=self.order, sde=self.sde)


class UnipcSampler(SamplerBase):
    """Solve by UniPC, a multistep predictor and corrector (Zhao et al. 2023)."""

    kind: Literal["unipc"] = "unipc"
    usual_steps: ClassVar[int | None] = 20
    order: Literal[1, 2, 3] = Field(2, description="Order of the predictor. The corrector adds one.")
    variant: Literal["bh1", "bh2"] = Field("bh2", description="B(h) of the paper: h, or exp(h) - 1.")

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step for one trajectory, whose last estimates it keeps."""
        from ddpm_cli.diffusion.samplers.unipc import unipc

        return unipc(order=self.order, variant=self.variant)


class DeisSampler(SamplerBase):
    """Solve by the exponential integrator of Adams and Bashforth (Zhang & Chen 2023, DEIS)."""

    kind: Literal["deis"] = "deis"
    usual_steps: ClassVar[int | None] = 20
    order: Literal[1, 2, 3] = Field(3, description="Order of the solver; 1 equals ddim.")

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step for one trajectory, whose last estimates it keeps."""
        from ddpm_cli.diffusion.samplers.adams import deis

        return deis(order=self.order)


class IpndmSampler(SamplerBase):
    """Solve by the improved pseudo numerical method (Liu et al. 2022, PNDM; Zhang & Chen 2023)."""

    kind: Literal["ipndm"] = "ipndm"
    usual_steps: ClassVar[int | None] = 20
    order: Literal[1, 2, 3, 4] = Field(4, description="Order of the solver; 1 equals ddim.")

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step for one trajectory, whose last estimates it keeps."""
        from ddpm_cli.diffusion.samplers.adams import ipndm

        return ipndm(order=self.order)


class ConsistencySampler(SamplerBase):
    """Sample a consistency model: estimate the image, and noise it anew in each step (Song et al. 2023). See `ddpm distill`."""

    kind: Literal["consistency"] = "consistency"
    usual_steps: ClassVar[int | None] = 2

    def build(self, schedule: Schedule, steps: int) -> Step:
        """Build the sampler's step."""
        from ddpm_cli.diffusion.samplers.consistency import consistency

        return consistency()


SamplerConfig = Annotated[
    SamplerBase,
    OneOf(
        "ddpm.samplers",
        DdpmSampler,
        DdimSampler,
        EulerSampler,
        HeunSampler,
        DpmSolverSampler,
        UnipcSampler,
        DeisSampler,
        IpndmSampler,
        ConsistencySampler,
    ),
]


class ThresholdBase(Choice):
    """Keep estimates of x_0 in the range of images."""

    @abstractmethod
    def build(self) -> Threshold | None:
        """Build what brings estimates of x_0 back into the range; None leaves them as they are."""


class NoThreshold(ThresholdBase):
    """Leave estimates of x_0 as they are."""

    kind: Literal["none"] = "none"

    def build(self) -> None:
        """Build nothing."""


class BoundThreshold(ThresholdBase):
    eps: Literal["derived", "predicted"] = Field(
        "derived",
        description="The noise after clipping. derived follows from the clipped x_0, so that both make up x_t. predicted is as the "
        "network predicts it, as in diffusers' DDIM (use_clipped_model_output = False).",
    )

    @abstractmethod
    def bound(self) -> Threshold:
        """Build what brings estimates of x_0 back into the range of images."""

    def build(self) -> Threshold:
        """Build the same, which says of the noise what `eps` says."""
        from ddpm_cli.diffusion.denoise import KeptNoise

        return KeptNoise(self.bound()) if self.eps == "predicted" else self.bound()


class ClampThreshold(BoundThreshold):
    """Clip each estimate of x_0 to [-1, 1] (Ho et al. 2020)."""

    kind: Literal["clamp"] = "clamp"

    def bound(self) -> Threshold:
        """Clip to [-1, 1]."""
        from ddpm_cli.diffusion.denoise import clamp

        return clamp


class DynamicThreshold(BoundThreshold):
    """Scale each estimate of x_0 down by a quantile of its values (Saharia et al. 2022, Imagen, Sec. 2.3)."""

    kind: Literal["dynamic"] = "dynamic"
    quantile: float = Field(0.995, gt=0, le=1, description="Share of an image's values that are not clipped.")

    def bound(self) -> Threshold:
        """Scale down by the quantile."""
        from ddpm_cli.diffusion.thresholding import dynamic_threshold

        return dynamic_threshold(self.quantile)


ThresholdConfig = Annotated[ThresholdBase, OneOf("ddpm.thresholds", NoThreshold, ClampThreshold, DynamicThreshold)]


class SamplingPathBase(Choice):
    """Go from noise to data along some path, whichever the model was trained along."""

    @abstractmethod
    def build(self) -> Path | None:
        """Build the path; None is that of the model's own schedule."""

    @property
    def is_own(self) -> bool:
        """Tell whether it is that of the model's own schedule."""
        return isinstance(self, OwnPath)


class OwnPath(SamplingPathBase):
    """Take the path that the model was trained along, with the steps of its schedule."""

    kind: Literal["own"] = "own"

    def build(self) -> None:
        """Build nothing."""


class FlowPath(SamplingPathBase):
    """Go straight: x = (1-t) x_0 + t eps, even in t (Lipman et al. 2023; Liu et al. 2023)."""

    kind: Literal["flow"] = "flow"

    def build(self) -> Path:
        """Build the path."""
        from ddpm_cli.diffusion.flows import Flow

        return Flow()


class TrigFlowPath(SamplingPathBase):
    """Go along an arc: x = cos(t) x_0 + sin(t) eps, even in t (Lu & Song 2024, TrigFlow)."""

    kind: Literal["trig-flow"] = "trig-flow"

    def build(self) -> Path:
        """Build the path."""
        from ddpm_cli.diffusion.flows import TrigFlow

        return TrigFlow()


class EdmPath(SamplingPathBase):
    """Let the noise explode: x = x_0 + sigma eps, even in sigma^(1/7) (Karras et al. 2022, Eq. 5)."""

    kind: Literal["edm"] = "edm"

    def build(self) -> Path:
        """Build the path."""
        from ddpm_cli.diffusion.paths import Exploding

        return Exploding()


PathConfig = Annotated[SamplingPathBase, OneOf("ddpm.paths", OwnPath, FlowPath, TrigFlowPath, EdmPath)]


class GuidanceConfig(Section):
    """Guide without a classifier (Ho & Salimans 2022); only for models with classes."""

    scale: float = Field(
        1.0, ge=0, description="1 is plainly conditional, 0 is unconditional. A larger number follows the class more closely."
    )
    interval: tuple[float, float] | None = Field(
        None,
        description="Guide only where low < sqrt((1-abar)/abar) <= high (Kynkäänniemi et al. 2024). Everywhere if unset.",
    )
    rescale: float = Field(0.0, ge=0, le=1, description="Share of the added contrast to take back (Lin et al. 2024, Sec. 3.4).")

    def build(self, predict: Predict, num_classes: int | None) -> Predict:
        """Guide a prediction; leave it as it is if the network has no classes.

        Raises:
            ConfigError: If there is something to guide and the network has no classes.
        """
        if num_classes is None:
            if self.scale != 1.0:
                raise ConfigError(
                    f"The model was trained without class labels, so that guidance (scale {self.scale}) has nothing to follow.",
                    "Train one with --set model.num_classes=auto.",
                )
            return predict
        from ddpm_cli.diffusion.guidance import guided

        return guided(predict, num_classes, **self.model_dump())

    @model_validator(mode="after")
    def _interval_rises(self) -> GuidanceConfig:
        _require_rising(self.interval)
        return self


class GuideConfig(Section):
    """Guide by a weaker model (Karras et al. 2024, autoguidance); also for models without classes."""

    model: str | None = Field(
        None,
        description="The guide: RUN@STEP, @STEP of the model's own run, a run, a checkpoint or a file. For drawing alone.",
    )
    scale: float = Field(1.5, ge=0, description="1 is without guidance. A larger number goes further away from the guide.")
    interval: tuple[float, float] | None = Field(
        None, description="Guide only where low < sqrt((1-abar)/abar) <= high. Everywhere if unset."
    )

    def build(self, predict: Predict, guide: Predict, schedule: Schedule | None) -> Predict:
        """Guide a prediction by that of a weaker model; `schedule` is the guide's, where it is not that of the model."""
        from ddpm_cli.diffusion.guidance import guided_by

        return guided_by(predict, guide, scale=self.scale, interval=self.interval, schedule=schedule)

    @model_validator(mode="after")
    def _interval_rises(self) -> GuideConfig:
        _require_rising(self.interval)
        return self


def _require_rising(interval: tuple[float, float] | None) -> None:
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ValueError(f"interval must be [low, high] with 0 <= low < high, not {list(interval)}")


def _said(sampler: SamplerBase) -> dict[str, Any]:
    """The kind of a sampler, and what it says beyond its defaults."""
    return sampler.model_dump(include={"kind"}) | sampler.model_dump(exclude_defaults=True)


class SampleConfig(Section):
    @model_validator(mode="before")
    @classmethod
    def _listed(cls, values: Any) -> Any:
        """Take `timesteps` for the steps of the sampler, whichever it is."""
        if not isinstance(values, dict) or values.get("timesteps") is None:
            return values
        rest = {key: value for key, value in values.items() if key != "timesteps"}
        sampler = kind_alone(rest.get("sampler", DdpmSampler().kind))
        named = _said(sampler) if isinstance(sampler, SamplerBase) else dict(sampler)
        if named.get("spacing") is not None:
            raise ValueError("timesteps lists the steps, so that sampler.spacing has nothing to space; leave one of them out")
        listed = {"kind": ListSpacing.model_fields["kind"].default, "timesteps": values["timesteps"]}
        return rest | {"sampler": named | {"spacing": listed}}

    sampler: SamplerConfig = Field(DdpmSampler(), description="How `ddpm sample` denoises.")
    path: PathConfig = Field(
        OwnPath(), description="Along which path samplers go. Another one changes which levels of noise are evenly spaced steps."
    )
    guidance: GuidanceConfig = Field(GuidanceConfig(), description="How closely samples follow their class.")
    guide: GuideConfig = Field(GuideConfig(), description="Which weaker model samples are led away from.")
    n: int = Field(16, ge=1, le=1_000_000, description="Images to draw.")
    batch_size: PositiveInt = Field(64, description="Images that are denoised at a time. The number does not change the images.")
    threshold: ThresholdConfig = Field(ClampThreshold(), description="How estimates of x_0 are kept in the range of images.")
    compile: Literal["auto"] | bool = Field(
        "auto", description="Compile the network before the first step. auto does so on CUDA, if there is much to denoise."
    )

    @model_validator(mode="after")
    def _steps_of_the_own_path(self) -> SampleConfig:
        if isinstance(self.sampler.spacing, ListSpacing) and not self.path.is_own:
            raise ValueError(
                f'listed steps are those of the model\'s own schedule, so that path must be "own", not "{self.path.kind}"; say how '
                "many steps instead (sampler.steps)"
            )
        return self

    def seen(self, schedule: Schedule) -> Schedule:
        """Show a model's schedule as samplers see it: along the path."""
        path = self.path.build()
        if path is None:
            return schedule
        from ddpm_cli.diffusion.paths import Seen

        return Seen(schedule, path)

    def prepare(self, schedule: Schedule) -> tuple[Step, list[Level]]:
        """Build the sampler's step, and the levels of a model's schedule that it visits; see `SamplerBase.prepare`."""
        from ddpm_cli.diffusion.paths import Seen, along

        seen = self.seen(schedule)
        step, levels = self.sampler.prepare(seen)
        return (along(seen, step), [seen.unseen(level) for level in levels]) if isinstance(seen, Seen) else (step, levels)
