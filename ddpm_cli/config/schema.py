"""The config: what can be said, its ranges and defaults.

Frozen pydantic models, one for each TOML section. A choice with options of its own is a union on `kind`; the union is the one
list of what exists. Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """Base of all sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def kind_alone(value: Any) -> Any:
    """Let `schedule = "cosine"` stand for `schedule = { kind = "cosine" }`."""
    return {"kind": value} if isinstance(value, str) else value


# ---------------------------------------------------------------------------------------------------------------- data


class DataBase(Section):
    root: Path | None = Field(None, description="Folder that holds the data set's files; looked in first.")
    limit: PositiveInt | None = Field(None, description="Use only this many training images.")
    horizontal_flip: bool = Field(False, description="Mirror each image with probability 1/2. Wrong for letters, digits and shoes.")


class FashionMnistData(DataBase):
    """Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28x28 grey (Xiao et al. 2017)."""

    kind: Literal["fashion-mnist"] = "fashion-mnist"


class FashionMnist10kData(DataBase):
    """The bundled balanced subset of Fashion-MNIST: 10,000 training and 2,000 test images."""

    kind: Literal["fashion-mnist-10k"] = "fashion-mnist-10k"


class Cifar10Data(DataBase):
    """CIFAR-10: 50,000 training and 10,000 test images, 32x32 colour (Krizhevsky 2009)."""

    kind: Literal["cifar10"] = "cifar10"


DataConfig = Annotated[
    Annotated[FashionMnistData | FashionMnist10kData | Cifar10Data, Field(discriminator="kind")], BeforeValidator(kind_alone)
]


# ------------------------------------------------------------------------------------------------------------ schedule


class ScheduleBase(Section):
    timesteps: int = Field(1000, ge=1, le=100_000, description="T, the number of noise levels.")


class BetaRange(ScheduleBase):
    beta_start: float = Field(1e-4, gt=0, lt=1, description="First beta, for T = 1000; scaled by 1000/T.")
    beta_end: float = Field(0.02, gt=0, lt=1, description="Last beta, for T = 1000; scaled by 1000/T.")

    @model_validator(mode="after")
    def _rises(self) -> BetaRange:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start ({self.beta_start}) must not exceed beta_end ({self.beta_end})")
        return self


class LinearSchedule(BetaRange):
    """Betas evenly spaced (Ho et al. 2020)."""

    kind: Literal["linear"] = "linear"


class QuadraticSchedule(BetaRange):
    """Square roots of the betas evenly spaced (Song et al. 2021, DDIM)."""

    kind: Literal["quadratic"] = "quadratic"


class CosineSchedule(ScheduleBase):
    """alpha_bar follows a squared cosine (Nichol & Dhariwal 2021, Eq. 17)."""

    kind: Literal["cosine"] = "cosine"
    s: float = Field(0.008, ge=0, lt=1, description="Offset that keeps the first betas from being too small.")
    max_beta: float = Field(0.999, gt=0, lt=1, description="Betas are clipped here.")


class SigmoidSchedule(BetaRange):
    """Betas follow a sigmoid over [-6, 6] (Xu et al. 2022, GeoDiff)."""

    kind: Literal["sigmoid"] = "sigmoid"


ScheduleConfig = Annotated[
    Annotated[LinearSchedule | QuadraticSchedule | CosineSchedule | SigmoidSchedule, Field(discriminator="kind")],
    BeforeValidator(kind_alone),
]


# --------------------------------------------------------------------------------------------------------------- model


class ModelConfig(Section):
    """The U-Net."""

    base_channels: int = Field(40, ge=4, description="Channels of the first level.")
    channel_mult: tuple[PositiveInt, ...] = Field(
        (1, 2),
        min_length=1,
        description="Channels of each level as multiples of base_channels; each further level halves the image.",
    )
    blocks_per_level: PositiveInt = Field(2, description="Residual blocks in each level on the way down.")
    attention_resolutions: tuple[PositiveInt, ...] = Field(
        (), description="Heights of the feature maps, after stem and padding, that get self-attention."
    )
    attention_heads: PositiveInt = Field(1, description="Heads of each self-attention; divides its channels.")
    middle_attention: bool = Field(True, description="Self-attention between the two middle blocks.")
    dropout: Share = Field(0.0, description="Dropout in the residual blocks.")
    scale_shift_norm: bool = Field(False, description="The time embedding scales and shifts the norm instead of being added.")
    norm_groups: PositiveInt = Field(
        32, description="Groups of each GroupNorm at most; the largest divisor of the channels is taken."
    )
    stem: Literal[1, 2, 4] = Field(2, description="Space-to-depth factor in front of the network; 2 or 4 make it fast on CPUs.")


# ----------------------------------------------------------------------------------------------------------- objective


class UniformTimesteps(Section):
    """Each image draws its own t (Ho et al. 2020, Alg. 1)."""

    kind: Literal["uniform"] = "uniform"


class StratifiedTimesteps(Section):
    """One draw per batch, spread evenly over all t: less variance in the loss (Kingma et al. 2021, VDM, App. I.1)."""

    kind: Literal["stratified"] = "stratified"


TimestepsConfig = Annotated[
    Annotated[UniformTimesteps | StratifiedTimesteps, Field(discriminator="kind")], BeforeValidator(kind_alone)
]


class ObjectiveConfig(Section):
    """What the network predicts and how training draws its steps."""

    parameterization: Literal["eps", "x0", "v"] = Field("eps", description="What the network predicts.")
    timesteps: TimestepsConfig = Field(UniformTimesteps(), description="How training draws t.")


# ----------------------------------------------------------------------------------------------------------- optimizer


class OptimizerConfig(Section):
    kind: Literal["adam", "adamw"] = Field("adam", description="torch.optim's Adam or AdamW.")
    lr: float = Field(2e-4, gt=0, description="Peak learning rate.")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Decay rates of the two moments.")
    eps: float = Field(1e-8, gt=0, description="Added to the denominator.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay.")
    warmup_steps: int = Field(0, ge=0, description="Steps over which the learning rate rises from 0.")
    decay: Literal["constant", "linear", "cosine"] = Field("constant", description="How the learning rate falls over the budget.")
    final_lr_share: float = Field(0.0, ge=0, le=1, description="Share of lr that is left at the end of the decay.")


class EmaConfig(Section):
    decay: Share = Field(0.9999, description="Share of the old average that each step keeps.")
    warmup: bool = Field(True, description="Start with a short average: decay = min(decay, (1 + n) / (10 + n)) at update n.")


# -------------------------------------------------------------------------------------------------------------- sample


class SamplerBase(Section):
    usual_steps: ClassVar[int | None] = None
    steps: PositiveInt | None = Field(
        None, description="Network evaluations; if unset all T for ddpm, 50 for ddim, 20 for dpm-solver++, but never more than T."
    )
    spacing: Literal["leading", "trailing", "linspace"] = Field(
        "trailing", description="Which steps a short sampler visits (Lin et al. 2024, Table 2); each starts at T-1."
    )

    def evaluations(self, timesteps: int) -> int:
        """Network evaluations under a schedule of T = `timesteps` steps."""
        return self.steps or min(self.usual_steps or timesteps, timesteps)


class DdpmSampler(SamplerBase):
    """Ancestral sampling (Ho et al. 2020, Alg. 2), respaced if steps < T (Nichol & Dhariwal 2021)."""

    kind: Literal["ddpm"] = "ddpm"
    variance: Literal["fixed-small", "fixed-large"] = Field("fixed-small", description="beta-tilde or beta (Sec. 3.2).")


class DdimSampler(SamplerBase):
    """Denoising diffusion implicit model (Song et al. 2021, Eq. 12)."""

    kind: Literal["ddim"] = "ddim"
    usual_steps: ClassVar[int | None] = 50
    eta: float = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 has DDPM's posterior variance.")


class DpmSolverSampler(SamplerBase):
    """DPM-Solver++ multistep (Lu et al. 2022)."""

    kind: Literal["dpm-solver++"] = "dpm-solver++"
    usual_steps: ClassVar[int | None] = 20
    order: Literal[1, 2] = Field(2, description="Order of the solver; 1 equals DDIM.")


SamplerConfig = Annotated[
    Annotated[DdpmSampler | DdimSampler | DpmSolverSampler, Field(discriminator="kind")], BeforeValidator(kind_alone)
]


class SampleConfig(Section):
    sampler: SamplerConfig = Field(DdpmSampler(), description="How `ddpm sample` denoises.")
    n: PositiveInt = Field(16, description="Images.")
    batch_size: PositiveInt = Field(64, description="Images denoised at a time; does not change them.")
    clip: bool = Field(True, description="Clip each estimate of x_0 to [-1, 1].")


# --------------------------------------------------------------------------------------------------------------- train


class TrainConfig(Section):
    epochs: float | None = Field(None, gt=0, description="Budget in passes over the data.")
    steps: PositiveInt | None = Field(None, description="Budget in optimizer steps.")
    minutes: float | None = Field(None, gt=0, description="Budget in minutes of training; such a run follows the clock.")
    batch_size: PositiveInt = Field(128, description="Images per optimizer step, over all processes.")
    micro_batch_size: PositiveInt | None = Field(
        None, description="Images per forward pass and process; a larger share is accumulated."
    )
    max_grad_norm: float | None = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 or fp16 on CUDA, else fp32.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    seed: int = Field(0, ge=0, lt=2**32, description="Fixes initial weights, order of the data, noise and steps.")
    log_every: PositiveInt = Field(50, description="Steps between rows of metrics.jsonl.")
    eval_every: PositiveInt = Field(500, description="Steps between held-out losses.")
    eval_images: PositiveInt = Field(1024, description="Held-out images, at most.")
    sample_every: PositiveInt = Field(1000, description="Steps between sample grids.")
    sample_n: PositiveInt = Field(16, description="Images in each of these grids.")
    sampler: SamplerConfig = Field(DdimSampler(), description="Sampler of these grids.")


class CheckpointConfig(Section):
    every: PositiveInt = Field(1000, description="Steps between checkpoints.")
    keep_last: PositiveInt = Field(2, description="Checkpoints that are kept, newest first.")
    keep_best: bool = Field(True, description="Also keep the one with the lowest held-out loss.")


# ----------------------------------------------------------------------------------------------------------------- all


def has_budget(train: TrainConfig) -> TrainConfig:
    """A run must end: without any budget it gets 20 epochs."""
    if train.epochs is None and train.steps is None and train.minutes is None:
        return train.model_copy(update={"epochs": 20.0})
    return train


class Config(Section):
    """All sections. Defaults are the `default` preset's, a faithful DDPM."""

    data: DataConfig = FashionMnistData()
    schedule: ScheduleConfig = LinearSchedule()
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EmaConfig = EmaConfig()
    train: Annotated[TrainConfig, AfterValidator(has_budget)] = TrainConfig(epochs=20.0)
    sample: SampleConfig = SampleConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()

    @model_validator(mode="after")
    def _steps_within_schedule(self) -> Config:
        for path, sampler in (("sample.sampler", self.sample.sampler), ("train.sampler", self.train.sampler)):
            if sampler.steps is not None and sampler.steps > self.schedule.timesteps:
                raise ValueError(f"{path}.steps ({sampler.steps}) exceeds schedule.timesteps ({self.schedule.timesteps})")
        return self
