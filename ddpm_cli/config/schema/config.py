"""Describe the config: what can be said, its ranges and defaults.

Frozen pydantic models, one for each TOML section. A choice with options of its own is a union on `kind`; the union is the one
list of what exists. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from ddpm_cli.config.schema.data import DataConfig, FashionMnistData
from ddpm_cli.config.schema.model import ModelConfig, UNetConfig
from ddpm_cli.config.schema.objective import ConsistencyLoss, LossAwareTimesteps, ObjectiveConfig
from ddpm_cli.config.schema.optimizer import AdamOptimizer, OptimizerConfig
from ddpm_cli.config.schema.sample import DdimSampler, DdpmSampler, GuidanceConfig, ListSpacing, SampleConfig, SamplerConfig
from ddpm_cli.config.schema.schedule import LearnedSchedule, LinearSchedule, ScheduleConfig
from ddpm_cli.config.schema.section import PositiveInt, Section, Share, is_stored, one_alone
from ddpm_cli.config.schema.start import StartConfig
from ddpm_cli.core.names import as_known
from ddpm_cli.metrics.registry import in_training

MOST_LOSSES = 10_000_000
"""Kept by loss-aware draws of t."""

# ----------------------------------------------------------------------------------------------------------------- ema


WIDEST = 0.28
"""Width of a power-function average: just below that of a plain mean over the whole training, 12**-0.5."""
MOST_WIDTHS = 4

Width = Annotated[float, Field(gt=0, le=WIDEST)]


class EmaConfig(Section):
    decay: Share = Field(0.9999, description="Share of the old average that each step keeps.")
    warmup: bool = Field(True, description="Start with a short average, with decay = min(decay, (1 + n) / (10 + n)) at update n.")
    widths: tuple[Width, ...] = Field(
        (),
        max_length=MOST_WIDTHS,
        description="Also keep power-function averages of these widths (Karras et al. 2024), as [0.05, 0.1], of which `ddpm ema` "
        "makes any other afterwards. Each is one more copy of the weights in memory, and of some steps on disk.",
    )

    @model_validator(mode="after")
    def _widths_differ(self) -> EmaConfig:
        if len(set(self.widths)) < len(self.widths):
            raise ValueError("ema.widths has one width twice")
        return self


# --------------------------------------------------------------------------------------------------------------- train

HELD_OUT_LOSS = "held-out-loss"


def _one_of(name: str, known: Sequence[str]) -> str:
    """Spell a name as it is known."""
    if (own := as_known(name, known)) in known:
        return own
    quoted = [f'"{word}"' for word in known]
    listed = " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
    raise ValueError(f'must be {listed}, not "{name}"')


def check_metric(name: str, info: ValidationInfo) -> str:
    """Accept a metric that can be measured while a model trains; of a stored model any."""
    return name if is_stored(info) else _one_of(name, list(in_training()))


def check_best_by(name: str, info: ValidationInfo) -> str:
    """Accept what the best checkpoint can be chosen by; of a stored model anything."""
    return (
        name
        if is_stored(info)
        else _one_of(name, [HELD_OUT_LOSS, *(known for known, metric in in_training().items() if metric.direction)])
    )


class TrainConfig(Section):
    epochs: float | None = Field(None, gt=0, le=1e9, description="Budget in passes over the data.")
    steps: int | None = Field(None, ge=1, le=10**15, description="Budget in optimizer steps.")
    minutes: float | None = Field(
        None, gt=0, le=1e9, description="Budget in minutes, evaluation included. Such a run follows the clock."
    )
    batch_size: PositiveInt = Field(128, description="Images per optimizer step, over all processes.")
    micro_batch_size: PositiveInt | None = Field(
        None, description="Images per forward pass and process. A process with more images per step accumulates gradients."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Compute activations again in the backward pass instead of keeping them. This takes less memory and more time.",
    )
    max_grad_norm: float | None = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="Number format. auto is bf16 or fp16 on CUDA, else fp32."
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="Compile the network before the first step (torch.compile). auto does so on CUDA, unless deterministic.",
    )
    sharding: Literal["none", "full"] = Field(
        "none",
        description="full spreads weights, gradients, moments and averages over the processes (FSDP). It is for models that do not "
        "fit on one device. To draw samples, the weights alone must still fit.",
    )
    device: Annotated[str, AfterValidator(str.lower)] = Field("auto", description="Device: auto, cpu, cuda, cuda:N or mps.")
    deterministic: bool = Field(
        False, description="Use only kernels that give the same bits each time. CUDA needs this for an exact resume. It is slower."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Seed that fixes initial weights, order of the data, noise and steps.")
    log_every: PositiveInt = Field(50, description="Steps between rows of metrics.jsonl.")
    eval_every: PositiveInt = Field(500, description="Steps between held-out losses.")
    eval_images: PositiveInt = Field(1024, description="Held-out images that the loss is measured on, at most.")
    evaluate_every: PositiveInt | None = Field(
        None,
        description="Steps between metrics of samples. The samples are of the averaged weights, and drawn by train.sampler. Off if "
        "unset. The time counts towards train.minutes, not towards images/s.",
    )
    evaluate_metrics: Annotated[tuple[Annotated[str, AfterValidator(check_metric)], ...], BeforeValidator(one_alone)] = Field(
        ("fcd",), min_length=1, description="Metrics to measure then: fcd, or those of another package that use the classifier."
    )
    evaluate_n: int = Field(1000, ge=2, description="Samples for each of these measurements.")
    patience: int | None = Field(
        None,
        ge=5,
        le=1000,
        description="Stop when so many evaluations in a row show no significant gain: of the metric that is measured every "
        "evaluate_every steps, else of the held-out loss. Off if unset.",
    )
    sample_every: PositiveInt = Field(1000, description="Steps between sample grids.")
    sample_n: PositiveInt = Field(16, description="Images in each of these grids.")
    sampler: SamplerConfig = Field(DdimSampler(), description="Sampler of these grids.")
    trackers: Annotated[tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...], BeforeValidator(one_alone)] = Field(
        (), description="Trackers that are also told of losses, metrics and sample grids: tensorboard, wandb, trackio, mlflow."
    )


class CheckpointConfig(Section):
    every: PositiveInt = Field(1000, description="Steps between checkpoints.")
    keep_last: PositiveInt = Field(
        2, description="How many of the newest checkpoints are kept, besides one that is known to be good."
    )
    keep_best: bool = Field(True, description="Also keep the best checkpoint, see best_by.")
    best_by: Annotated[str, AfterValidator(check_best_by)] = Field(
        HELD_OUT_LOSS,
        description="What the best checkpoint is chosen by. A metric such as fcd needs train.evaluate_every. A checkpoint is "
        "written each time it improves.",
    )


# ----------------------------------------------------------------------------------------------------------------- all


def has_budget(train: TrainConfig) -> TrainConfig:
    """Let a run end: without any budget it gets 20 epochs."""
    if train.epochs is None and train.steps is None and train.minutes is None:
        return train.model_copy(update={"epochs": 20.0})
    return train


class Config(Section):
    """Hold all sections. Defaults are the `default` preset's, a faithful DDPM."""

    data: DataConfig = FashionMnistData()
    schedule: ScheduleConfig = LinearSchedule()
    model: ModelConfig = UNetConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    start: StartConfig = StartConfig()
    optimizer: OptimizerConfig = AdamOptimizer()
    ema: EmaConfig = EmaConfig()
    train: Annotated[TrainConfig, AfterValidator(has_budget)] = TrainConfig(epochs=20.0)
    sample: SampleConfig = SampleConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _schedule_can_learn(self) -> Config:
        parameterization, variance = self.objective.parameterization, self.objective.reverse_variance
        can_learn = parameterization.lets_schedule_learn and variance != "learned-range"
        if isinstance(self.schedule, LearnedSchedule) and not can_learn:
            raise ValueError(
                'the schedule "learned" needs the parameterization eps, x0 or v and a fixed variance, '
                f'not "{parameterization.kind}" and "{variance}"'
            )
        return self

    @model_validator(mode="after")
    def _bound_has_betas(self) -> Config:
        loss, schedule = self.objective.loss, self.schedule
        if not schedule.has_betas and (loss.is_bound or self.objective.reverse_variance == "learned-range"):
            raise ValueError(
                f'the loss "{loss.kind}" is of betas, which the schedule "{schedule.kind}" does not have; set objective.loss = '
                "simple, or schedule.kind = cosine"
            )
        return self

    @model_validator(mode="after")
    def _autoguidance_fits(self) -> Config:
        if self.objective.autoguidance.scale > 1 and self.train.sharding == "full":
            raise ValueError(
                'objective.autoguidance keeps whole copies of the network; set its scale = 1, or train.sharding = "none"'
            )
        if self.objective.autoguidance.scale > 1 and isinstance(self.schedule, LearnedSchedule):
            raise ValueError('objective.autoguidance needs a schedule that stays as it is, not "learned"; set its scale = 1')
        return self

    @model_validator(mode="after")
    def _history_fits(self) -> Config:
        draws = self.objective.timesteps
        kept = draws.history * self.schedule.timesteps if isinstance(draws, LossAwareTimesteps) else 0
        if kept > MOST_LOSSES:
            raise ValueError(f"objective.timesteps.history keeps {kept:,} losses, history times T, and may keep {MOST_LOSSES:,}")
        return self

    @model_validator(mode="after")
    def _guidance_has_classes(self) -> Config:
        if self.model.num_classes is None and self.sample.guidance != GuidanceConfig():
            raise ValueError(
                f"sample.guidance (scale {self.sample.guidance.scale:g}) needs a model that was trained with classes "
                "(--set model.num_classes=auto)"
            )
        return self

    @model_validator(mode="after")
    def _guide_is_for_drawing(self, info: ValidationInfo) -> Config:
        if self.sample.guide.model is not None and not is_stored(info):
            raise ValueError(
                "sample.guide.model is for drawing from a trained model, and has no place in a training; leave it out, and give "
                "--guide-with to `ddpm sample` and `ddpm evaluate`"
            )
        return self

    @model_validator(mode="after")
    def _teacher_is_there(self) -> Config:
        loss = self.objective.loss
        if not isinstance(loss, ConsistencyLoss) or not loss.needs_teacher:
            return self
        if self.model.num_classes is None and loss.guidance != GuidanceConfig():
            raise ValueError("objective.loss.guidance needs a teacher that was trained with classes")
        if self.start.weights is None:
            raise ValueError("objective.loss asks a teacher, and start.weights names none; `ddpm distill` takes a run as one")
        return self

    @model_validator(mode="after")
    def _consistency_has_a_fixed_schedule(self) -> Config:
        if isinstance(self.objective.loss, ConsistencyLoss) and isinstance(self.schedule, LearnedSchedule):
            raise ValueError('the loss "consistency" needs a schedule that stays as it is, not "learned"')
        return self

    @model_validator(mode="after")
    def _best_is_measured(self) -> Config:
        best_by = self.checkpoint.best_by
        if best_by != HELD_OUT_LOSS and (self.train.evaluate_every is None or best_by not in self.train.evaluate_metrics):
            raise ValueError(f'checkpoint.best_by "{best_by}" is never measured; set train.evaluate_every, for example to 1000')
        return self

    @model_validator(mode="after")
    def _samples_suffice(self) -> Config:
        for name in self.train.evaluate_metrics if self.train.evaluate_every else ():
            smallest = in_training()[name].smallest_n if name in in_training() else 1
            if self.train.evaluate_n < smallest:
                raise ValueError(f"train.evaluate_n must be at least {smallest} for {name}, not {self.train.evaluate_n}")
        return self

    @model_validator(mode="after")
    def _learned_variance_was_learned(self) -> Config:
        for path, sampler in (("sample.sampler", self.sample.sampler), ("train.sampler", self.train.sampler)):
            wanted = isinstance(sampler, DdpmSampler) and sampler.variance == "learned-range"
            if wanted and self.objective.reverse_variance != "learned-range":
                raise ValueError(f'{path}.variance "learned-range" needs a model trained with objective.variance = "learned-range"')
        return self

    @model_validator(mode="after")
    def _steps_within_schedule(self) -> Config:
        for path, sampler in (("sample.sampler", self.sample.sampler), ("train.sampler", self.train.sampler)):
            listed = sampler.spacing.timesteps if isinstance(sampler.spacing, ListSpacing) else None
            if listed and listed[0] >= self.schedule.timesteps:
                raise ValueError(f"{path}.spacing.timesteps begins above schedule.timesteps - 1 ({self.schedule.timesteps - 1})")
            if sampler.steps is not None and sampler.steps > self.schedule.timesteps:
                raise ValueError(f"{path}.steps ({sampler.steps}) exceeds schedule.timesteps ({self.schedule.timesteps})")
        return self
