"""The config: what can be said, its ranges and defaults.

Frozen pydantic models, one for each TOML section. A choice with options of its own is a union on `kind`; the union is the one
list of what exists. Nothing here imports torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, model_validator

from ddpm_cli.config.data_schema import DataConfig, FashionMnistData
from ddpm_cli.config.section import PositiveInt, Section, Share, kind_alone

# ------------------------------------------------------------------------------------------------------------ schedule


class ScheduleBase(Section):
    timesteps: int = Field(1000, ge=1, le=100_000, description="T, the number of noise levels.")
    logsnr_shift: float = Field(
        0.0,
        ge=-20,
        le=20,
        description="Added to log SNR; 2*log(64/size) for images larger than 64 pixels (Hoogeboom et al. 2023).",
    )
    zero_terminal_snr: bool = Field(
        False, description="Rescale so that no signal is left at the last step (Lin et al. 2024, Alg. 1); not with eps-prediction."
    )


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


class ScaledLinearSchedule(BetaRange):
    """Square roots of the betas evenly spaced, as quadratic, over the range of latent diffusion (Rombach et al. 2022)."""

    kind: Literal["scaled-linear"] = "scaled-linear"
    beta_start: float = Field(0.00085, gt=0, lt=1, description="First beta, for T = 1000; scaled by 1000/T.")
    beta_end: float = Field(0.012, gt=0, lt=1, description="Last beta, for T = 1000; scaled by 1000/T.")


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


class TableSchedule(ScheduleBase):
    """Betas or alpha_bar from a file; a run keeps the betas themselves in its config, so that it does not need the file."""

    kind: Literal["table"] = "table"
    path: Path | None = Field(None, description="CSV or JSON with columns or keys beta(s), alpha_bar or alphas_cumprod.")
    values: Literal["betas", "alpha_bar"] | None = Field(None, description="What to read; needed if the file names nothing.")
    betas: tuple[float, ...] | None = Field(None, max_length=100_000, description="The betas themselves, instead of path.")

    @model_validator(mode="after")
    def _one_source(self) -> TableSchedule:
        if self.path is not None and self.betas is not None:
            raise ValueError("path and betas exclude each other; a run has its betas already")
        return self


class LearnedSchedule(ScheduleBase):
    """gamma = -log SNR is a monotone network, trained to lower the variance of the bound (Kingma et al. 2021, VDM)."""

    kind: Literal["learned"] = "learned"
    timesteps: int = Field(1000, ge=2, le=100_000, description="T, the number of noise levels.")
    gamma_min: float = Field(-9.0, ge=-20, le=20, description="-log SNR of the first step, before any training.")
    gamma_max: float = Field(10.0, ge=-20, le=20, description="-log SNR of the last step, before any training.")
    endpoint_range: float = Field(
        0.0, ge=0, le=10, description="How far training may move each endpoint to tighten the bound; 0 keeps them fixed."
    )
    learning_rate: float = Field(1e-2, gt=0, description="Learning rate of the schedule's own Adam.")

    @model_validator(mode="after")
    def _endpoints_apart(self) -> LearnedSchedule:
        if self.gamma_max - self.gamma_min < 2 * self.endpoint_range + 1:
            raise ValueError("gamma_max - gamma_min must be at least 1 more than twice endpoint_range")
        if self.zero_terminal_snr:
            raise ValueError("zero_terminal_snr is not for a learned schedule, whose gamma stays finite; raise gamma_max instead")
        return self


ScheduleConfig = Annotated[
    Annotated[
        LinearSchedule
        | ScaledLinearSchedule
        | QuadraticSchedule
        | CosineSchedule
        | SigmoidSchedule
        | TableSchedule
        | LearnedSchedule,
        Field(discriminator="kind"),
    ],
    BeforeValidator(kind_alone),
]


# --------------------------------------------------------------------------------------------------------------- model


MOST_CLASSES = 1_000_000
MOST_LOSSES = 10_000_000
Multiple = Annotated[int, Field(ge=1, le=256)]


def count_or_auto(value: Any) -> int | str:
    """A whole number from 1 to MOST_CLASSES, or "auto"."""
    if isinstance(value, int) and 1 <= value <= MOST_CLASSES:
        return value
    if value == "auto":
        return "auto"
    raise ValueError(f'must be a whole number from 1 to {MOST_CLASSES:,} or "auto"')


class ModelConfig(Section):
    """The U-Net. Its limits are far beyond any network of use, and keep a stranger's config from filling the memory."""

    base_channels: int = Field(40, ge=4, le=16_384, description="Channels of the first level.")
    channel_mult: tuple[Multiple, ...] = Field(
        (1, 2),
        min_length=1,
        max_length=16,
        description="Channels of each level as multiples of base_channels; each further level halves the image.",
    )
    blocks_per_level: int = Field(2, ge=1, le=32, description="Residual blocks in each level on the way down.")
    attention_resolutions: tuple[PositiveInt, ...] = Field(
        (), description="Heights of the feature maps, after stem and padding, that get self-attention."
    )
    attention_heads: PositiveInt = Field(1, description="Heads of each self-attention; divides its channels.")
    middle_attention: bool = Field(True, description="Self-attention between the two middle blocks.")
    dropout: Share = Field(0.0, description="Dropout in the residual blocks.")
    scale_shift_norm: bool = Field(False, description="The time embedding scales and shifts the norm instead of being added.")
    norm_groups: PositiveInt = Field(
        8,
        description="Groups of each GroupNorm at most; the largest divisor of the channels is taken. With one channel in a "
        "group the norm takes the time embedding out again.",
    )
    stem: Literal[1, 2, 4] = Field(2, description="Space-to-depth factor in front of the network; 2 or 4 make it fast on CPUs.")
    num_classes: Annotated[int | str, PlainValidator(count_or_auto)] | None = Field(
        None, description="Train with class labels; auto takes the number of classes from the data."
    )


# ----------------------------------------------------------------------------------------------------------- objective


class UniformTimesteps(Section):
    """Each image draws its own t (Ho et al. 2020, Alg. 1)."""

    kind: Literal["uniform"] = "uniform"


class StratifiedTimesteps(Section):
    """One draw per batch, spread evenly over all t: less variance in the loss (Kingma et al. 2021, VDM, App. I.1)."""

    kind: Literal["stratified"] = "stratified"


class LogitNormalTimesteps(Section):
    """More steps from the middle: logit(t/T) is normal (Esser et al. 2024, Stable Diffusion 3, Eq. 19)."""

    kind: Literal["logit-normal"] = "logit-normal"
    mean: float = Field(0.0, ge=-10, le=10, description="Below 0 favours little noise.")
    std: float = Field(1.0, gt=0, le=10, description="Spread of logit(t/T).")


class LogNormalTimesteps(Section):
    """log sigma is normal, as in EDM (Karras et al. 2022, Table 1); t is the step with the nearest noise level."""

    kind: Literal["log-normal"] = "log-normal"
    p_mean: float = Field(-1.2, ge=-10, le=10, description="Mean of log sigma, sigma = sqrt((1-abar)/abar).")
    p_std: float = Field(1.2, gt=0, le=10, description="Standard deviation of log sigma.")


class LossAwareTimesteps(Section):
    """t in proportion to the root mean square of its last losses, weighted to stay unbiased (Nichol & Dhariwal 2021, Sec. 3.3)."""

    kind: Literal["loss-aware"] = "loss-aware"
    history: int = Field(10, ge=1, le=1000, description="Losses kept for each t; until all have as many, t is uniform.")
    uniform_share: float = Field(0.001, gt=0, le=1, description="Share of uniform draws.")


TimestepsConfig = Annotated[
    Annotated[
        UniformTimesteps | StratifiedTimesteps | LogitNormalTimesteps | LogNormalTimesteps | LossAwareTimesteps,
        Field(discriminator="kind"),
    ],
    BeforeValidator(kind_alone),
]


class EpsParameterization(Section):
    """The noise (Ho et al. 2020)."""

    kind: Literal["eps"] = "eps"


class X0Parameterization(Section):
    """The image (Ho et al. 2020, Sec. 3.2)."""

    kind: Literal["x0"] = "x0"


class VParameterization(Section):
    """The velocity sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho 2022)."""

    kind: Literal["v"] = "v"


class EdmParameterization(Section):
    """EDM's preconditioned mixture of image and noise (Karras et al. 2022); trained as there with timesteps = log-normal."""

    kind: Literal["edm"] = "edm"
    sigma_data: float = Field(0.5, gt=0, le=10, description="Standard deviation of the images in [-1, 1].")


ParameterizationConfig = Annotated[
    Annotated[
        EpsParameterization | X0Parameterization | VParameterization | EdmParameterization,
        Field(discriminator="kind"),
    ],
    BeforeValidator(kind_alone),
]


class SimpleLoss(Section):
    """Squared error of the prediction, L_simple (Ho et al. 2020, Eq. 14)."""

    kind: Literal["simple"] = "simple"


class VlbLoss(Section):
    """The variational bound in bits per dimension, L_vlb (Ho et al. 2020, Eq. 5)."""

    kind: Literal["vlb"] = "vlb"


class HybridLoss(Section):
    """L_simple plus a share of L_vlb that trains the variance alone (Nichol & Dhariwal 2021, Eq. 16)."""

    kind: Literal["hybrid"] = "hybrid"
    vlb_share: float = Field(0.001, gt=0, description="Share of L_vlb, the paper's lambda.")


LossConfig = Annotated[Annotated[SimpleLoss | VlbLoss | HybridLoss, Field(discriminator="kind")], BeforeValidator(kind_alone)]


class SimpleWeighting(Section):
    """Each parameterization's own squared error (Ho et al. 2020, Eq. 14)."""

    kind: Literal["simple"] = "simple"


class SnrWeighting(Section):
    """The image's squared error times SNR, whatever is predicted; for eps the same as simple (Salimans & Ho 2022, Sec. 4)."""

    kind: Literal["snr"] = "snr"


class MinSnrWeighting(Section):
    """The image's squared error times min(SNR, gamma), whatever is predicted (Hang et al. 2023, Sec. 3.4)."""

    kind: Literal["min-snr"] = "min-snr"
    gamma: float = Field(5.0, gt=0, description="Where SNR is cut off.")


WeightingConfig = Annotated[
    Annotated[SimpleWeighting | SnrWeighting | MinSnrWeighting, Field(discriminator="kind")], BeforeValidator(kind_alone)
]


class ObjectiveConfig(Section):
    """What the network predicts, the loss, and how training draws its steps."""

    parameterization: ParameterizationConfig = Field(EpsParameterization(), description="What the network predicts.")
    variance: Literal["auto", "fixed-small", "fixed-large", "learned-range"] = Field(
        "auto",
        description="Of a reverse step in the bound: beta-tilde, beta, or learned between them (Nichol & Dhariwal 2021); auto: "
        "learned-range for the loss hybrid, else fixed-small.",
    )
    loss: LossConfig = Field(SimpleLoss(), description="What is minimised.")
    weighting: WeightingConfig = Field(SimpleWeighting(), description="How much each noise level counts in L_simple.")
    timesteps: TimestepsConfig = Field(UniformTimesteps(), description="How training draws t.")
    label_dropout: float = Field(
        0.1, ge=0, le=1, description="Share of labels hidden in training, for guidance; only with model.num_classes."
    )

    @property
    def reverse_variance(self) -> Literal["fixed-small", "fixed-large", "learned-range"]:
        """The variance with "auto" resolved."""
        if self.variance != "auto":
            return self.variance
        return "learned-range" if self.loss.kind == "hybrid" else "fixed-small"

    @model_validator(mode="after")
    def _every_part_is_trained(self) -> ObjectiveConfig:
        variance, loss = self.reverse_variance, self.loss.kind
        if variance == "learned-range" and loss == "simple":
            raise ValueError('variance "learned-range" is not trained by the loss "simple"; set objective.loss = "hybrid" or "vlb"')
        if variance != "learned-range" and loss == "hybrid":
            raise ValueError(f'the loss "hybrid" learns the variance, it cannot be "{variance}"; set objective.variance = "auto"')
        if loss != "simple" and self.timesteps.kind in ("logit-normal", "log-normal"):
            raise ValueError(
                f'timesteps "{self.timesteps.kind}" makes no bound of the loss "{loss}"; use uniform, stratified or loss-aware'
            )
        if loss == "vlb" and self.weighting.kind != "simple":
            raise ValueError(f'weighting "{self.weighting.kind}" has no effect on the loss "vlb"; leave it at "simple"')
        return self


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


class LeadingSpacing(Section):
    """Whole multiples of T // n, the largest replaced by T-1 (Lin et al. 2024, Table 2)."""

    kind: Literal["leading"] = "leading"


class TrailingSpacing(Section):
    """Evenly spaced from T-1 down, ending T / n above clean data (Lin et al. 2024, Table 2)."""

    kind: Literal["trailing"] = "trailing"


class LinspaceSpacing(Section):
    """Evenly spaced from T-1 to 0 (Lin et al. 2024, Table 2)."""

    kind: Literal["linspace"] = "linspace"


class LogsnrSpacing(Section):
    """Evenly spaced in log SNR from T-1 to 0 (Lu et al. 2022, DPM-Solver)."""

    kind: Literal["logsnr"] = "logsnr"


class KarrasSpacing(Section):
    """Evenly spaced in sigma^(1/rho) from T-1 to 0 (Karras et al. 2022, Eq. 5)."""

    kind: Literal["karras"] = "karras"
    rho: float = Field(7.0, ge=1, le=100, description="The larger, the more steps at low noise.")


SpacingConfig = Annotated[
    Annotated[
        LeadingSpacing | TrailingSpacing | LinspaceSpacing | LogsnrSpacing | KarrasSpacing,
        Field(discriminator="kind"),
    ],
    BeforeValidator(kind_alone),
]


class SamplerBase(Section):
    usual_steps: ClassVar[int | None] = None
    steps: PositiveInt | None = Field(
        None,
        description="Steps to visit, each one network evaluation (heun: two, but for the last); if unset all T for ddpm, "
        "50 for ddim and euler, 20 for the others, but never more than T.",
    )
    spacing: SpacingConfig = Field(TrailingSpacing(), description="Which steps a short sampler visits; each starts at T-1.")

    def number_of_steps(self, timesteps: int) -> int:
        """Steps visited under a schedule of T = `timesteps` steps."""
        return self.steps or min(self.usual_steps or timesteps, timesteps)

    def evaluations(self, timesteps: int) -> int:
        """Network evaluations, at most, under a schedule of T = `timesteps` steps."""
        return self.number_of_steps(timesteps)


class DdpmSampler(SamplerBase):
    """Ancestral sampling (Ho et al. 2020, Alg. 2), respaced if steps < T (Nichol & Dhariwal 2021)."""

    kind: Literal["ddpm"] = "ddpm"
    variance: Literal["fixed-small", "fixed-large", "learned-range"] = Field(
        "fixed-small", description="beta-tilde, beta (Ho et al. 2020, Sec. 3.2), or what a network with learned variance says."
    )


class DdimSampler(SamplerBase):
    """Denoising diffusion implicit model (Song et al. 2021, Eq. 12)."""

    kind: Literal["ddim"] = "ddim"
    usual_steps: ClassVar[int | None] = 50
    eta: float = Field(0.0, ge=0, le=1, description="0 is deterministic, 1 has DDPM's posterior variance.")


class ChurnedSampler(SamplerBase):
    s_churn: float = Field(0.0, ge=0, description="Noise added over all steps; 0 is deterministic.")
    s_min: float = Field(0.0, ge=0, description="Noise is added only from this sigma = sqrt((1-abar)/abar) on.")
    s_max: float | None = Field(None, ge=0, description="Noise is added only up to this sigma; none: no limit.")
    s_noise: float = Field(1.0, ge=0, le=10, description="Standard deviation of the added noise.")


class EulerSampler(ChurnedSampler):
    """Euler's method in sigma, with churn (Karras et al. 2022, Alg. 2, first order); without churn it is ddim."""

    kind: Literal["euler"] = "euler"
    usual_steps: ClassVar[int | None] = 50


class HeunSampler(ChurnedSampler):
    """Heun's method in sigma, with churn (Karras et al. 2022, Alg. 2); n steps are 2n - 1 network evaluations."""

    kind: Literal["heun"] = "heun"
    usual_steps: ClassVar[int | None] = 20

    def evaluations(self, timesteps: int) -> int:
        """Network evaluations, at most, under a schedule of T = `timesteps` steps."""
        return 2 * self.number_of_steps(timesteps) - 1


class DpmSolverSampler(SamplerBase):
    """DPM-Solver++ multistep (Lu et al. 2022)."""

    kind: Literal["dpm-solver++"] = "dpm-solver++"
    usual_steps: ClassVar[int | None] = 20
    order: Literal[1, 2, 3] = Field(2, description="Order of the solver; 1 equals ddim.")
    sde: bool = Field(False, description="Solve the reverse SDE, with fresh noise in each step; orders 1 and 2.")

    @model_validator(mode="after")
    def _sde_order(self) -> DpmSolverSampler:
        if self.sde and self.order == 3:
            raise ValueError("order 3 has no SDE variant; choose 1 or 2, or sde = false")
        return self


class UnipcSampler(SamplerBase):
    """UniPC, multistep predictor and corrector, bh2 (Zhao et al. 2023)."""

    kind: Literal["unipc"] = "unipc"
    usual_steps: ClassVar[int | None] = 20
    order: Literal[1, 2, 3] = Field(2, description="Order of the predictor; the corrector adds one.")


SamplerConfig = Annotated[
    Annotated[
        DdpmSampler | DdimSampler | EulerSampler | HeunSampler | DpmSolverSampler | UnipcSampler, Field(discriminator="kind")
    ],
    BeforeValidator(kind_alone),
]


class NoThreshold(Section):
    """Leave estimates of x_0 as they are."""

    kind: Literal["none"] = "none"


class ClampThreshold(Section):
    """Clip each estimate of x_0 to [-1, 1] (Ho et al. 2020)."""

    kind: Literal["clamp"] = "clamp"


class DynamicThreshold(Section):
    """Scale each estimate of x_0 down by a quantile of its values (Saharia et al. 2022, Imagen, Sec. 2.3)."""

    kind: Literal["dynamic"] = "dynamic"
    quantile: float = Field(0.995, gt=0, le=1, description="Share of an image's values that are not clipped.")


ThresholdConfig = Annotated[
    Annotated[NoThreshold | ClampThreshold | DynamicThreshold, Field(discriminator="kind")], BeforeValidator(kind_alone)
]


class GuidanceConfig(Section):
    """Classifier-free guidance (Ho & Salimans 2022); only for models with classes."""

    scale: float = Field(1.0, ge=0, description="1 is plainly conditional, 0 unconditional, more follows the class more closely.")
    interval: tuple[float, float] | None = Field(
        None,
        description="Guide only where low < sqrt((1-abar)/abar) <= high (Kynkäänniemi et al. 2024); everywhere if unset.",
    )
    rescale: float = Field(0.0, ge=0, le=1, description="Share of the added contrast to take back (Lin et al. 2024, Sec. 3.4).")

    @model_validator(mode="after")
    def _interval_rises(self) -> GuidanceConfig:
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1]:
            raise ValueError(f"interval must be [low, high] with 0 <= low < high, not {list(self.interval)}")
        return self


class SampleConfig(Section):
    sampler: SamplerConfig = Field(DdpmSampler(), description="How `ddpm sample` denoises.")
    guidance: GuidanceConfig = Field(GuidanceConfig(), description="How closely samples follow their class.")
    n: int = Field(16, ge=1, le=1_000_000, description="Images.")
    batch_size: PositiveInt = Field(64, description="Images denoised at a time; does not change them.")
    threshold: ThresholdConfig = Field(ClampThreshold(), description="How estimates of x_0 are kept in the range of images.")
    compile: Literal["auto"] | bool = Field(
        "auto", description="Compile the network before the first step; auto: on CUDA, where there is much to denoise."
    )


# --------------------------------------------------------------------------------------------------------------- train


class TrainConfig(Section):
    epochs: float | None = Field(None, gt=0, le=1e9, description="Budget in passes over the data.")
    steps: int | None = Field(None, ge=1, le=10**15, description="Budget in optimizer steps.")
    minutes: float | None = Field(
        None, gt=0, le=1e9, description="Budget in minutes, evaluation included; such a run follows the clock."
    )
    batch_size: PositiveInt = Field(128, description="Images per optimizer step, over all processes.")
    micro_batch_size: PositiveInt | None = Field(
        None, description="Images per forward pass and process; a larger share is accumulated."
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass instead of keeping them: less memory, more time."
    )
    max_grad_norm: float | None = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="auto: bf16 or fp16 on CUDA, else fp32.")
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="Compile the network before the first step (torch.compile); auto: on CUDA, unless deterministic.",
    )
    sharding: Literal["none", "full"] = Field(
        "none",
        description="full spreads weights, gradients, moments and averages over the processes, for models that do not fit on one "
        "device (FSDP); drawing samples still needs the weights alone to fit.",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps.")
    deterministic: bool = Field(
        False, description="Only kernels that give the same bits each time; CUDA needs it for an exact resume. Slower."
    )
    seed: int = Field(0, ge=0, lt=2**32, description="Fixes initial weights, order of the data, noise and steps.")
    log_every: PositiveInt = Field(50, description="Steps between rows of metrics.jsonl.")
    eval_every: PositiveInt = Field(500, description="Steps between held-out losses.")
    eval_images: PositiveInt = Field(1024, description="Held-out images, at most.")
    evaluate_every: PositiveInt | None = Field(
        None,
        description="Steps between metrics of samples of the averaged weights, drawn by train.sampler; off if unset. Their time "
        "counts towards train.minutes, not towards images/s.",
    )
    evaluate_metrics: tuple[Literal["fcd"], ...] = Field(("fcd",), min_length=1, description="Which: fcd.")
    evaluate_n: int = Field(1000, ge=2, description="Samples for each of these measurements.")
    sample_every: PositiveInt = Field(1000, description="Steps between sample grids.")
    sample_n: PositiveInt = Field(16, description="Images in each of these grids.")
    sampler: SamplerConfig = Field(DdimSampler(), description="Sampler of these grids.")


class CheckpointConfig(Section):
    every: PositiveInt = Field(1000, description="Steps between checkpoints.")
    keep_last: PositiveInt = Field(2, description="Newest checkpoints kept, besides one that is known to be good.")
    keep_best: bool = Field(True, description="Also keep the best one, see best_by.")
    best_by: Literal["held-out-loss", "fcd"] = Field(
        "held-out-loss",
        description="What is lowest in the best checkpoint; fcd needs train.evaluate_every, and each time it improves a checkpoint "
        "is written.",
    )


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
    def _schedule_can_learn(self) -> Config:
        kind, variance = self.objective.parameterization.kind, self.objective.reverse_variance
        if isinstance(self.schedule, LearnedSchedule) and (kind == "edm" or variance == "learned-range"):
            raise ValueError(
                'the schedule "learned" needs the parameterization eps, x0 or v and a fixed variance, '
                f'not "{kind}" and "{variance}"'
            )
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
    def _best_is_measured(self) -> Config:
        best_by = self.checkpoint.best_by
        if best_by != "held-out-loss" and (self.train.evaluate_every is None or best_by not in self.train.evaluate_metrics):
            raise ValueError(f'checkpoint.best_by "{best_by}" is never measured; set train.evaluate_every, for example to 1000')
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
            if sampler.steps is not None and sampler.steps > self.schedule.timesteps:
                raise ValueError(f"{path}.steps ({sampler.steps}) exceeds schedule.timesteps ({self.schedule.timesteps})")
        return self
