"""Describe the config's `[objective]`: what is predicted, the losses, their weightings, and how training draws its steps."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from ddpm_cli.config.schema.sample import GuidanceConfig
from ddpm_cli.config.schema.section import Choice, OneOf, Section
from ddpm_cli.data.scale import USUAL
from ddpm_cli.diffusion.variances import ModelVariance

if TYPE_CHECKING:
    import torch

    from ddpm_cli.diffusion.objectives.autoguidance import Autoguidance
    from ddpm_cli.diffusion.objectives.losses import Loss
    from ddpm_cli.diffusion.objectives.noise_draws import Coupling
    from ddpm_cli.diffusion.objectives.timestep_draws import TimestepSampler
    from ddpm_cli.diffusion.objectives.uncertainty import Uncertainty
    from ddpm_cli.diffusion.objectives.weightings import Weighting
    from ddpm_cli.diffusion.prediction import X0, Edm, Eps, FlowVelocity, Prediction, V


class TimestepsBase(Choice):
    """Draw the steps of training."""

    is_weighted: ClassVar[bool] = False
    """Whether some steps are drawn more often and nothing makes up for it, so that the mean of a bound is none."""

    @abstractmethod
    def build(self, objective: ObjectiveConfig, timesteps: int) -> TimestepSampler:
        """Build what draws steps out of T = `timesteps`."""


class FlatTimesteps(TimestepsBase):
    kind: Literal["uniform", "stratified"]

    def build(self, objective: ObjectiveConfig, timesteps: int) -> TimestepSampler:
        """Draw all of T = `timesteps` steps alike."""
        from ddpm_cli.diffusion.objectives.timestep_draws import FlatDraws

        return FlatDraws(self.kind)


class UniformTimesteps(FlatTimesteps):
    """Draw a t for each image (Ho et al. 2020, Alg. 1)."""

    kind: Literal["uniform"] = "uniform"


class StratifiedTimesteps(FlatTimesteps):
    """Draw once per batch, spread evenly over all t, so that the loss varies less (Kingma et al. 2021, VDM, App. I.1)."""

    kind: Literal["stratified"] = "stratified"


class LogitNormalTimesteps(TimestepsBase):
    """Draw more steps from the middle: logit(t/T) is normal (Esser et al. 2024, Stable Diffusion 3, Eq. 19)."""

    kind: Literal["logit-normal"] = "logit-normal"
    is_weighted: ClassVar[bool] = True
    mean: float = Field(0.0, ge=-10, le=10, description="Mean of logit(t/T). Below 0 it favours little noise.")
    std: float = Field(1.0, gt=0, le=10, description="Spread of logit(t/T).")

    def build(self, objective: ObjectiveConfig, timesteps: int) -> TimestepSampler:
        """Draw more of the steps in the middle."""
        from ddpm_cli.diffusion.objectives.timestep_draws import LogitNormalDraws

        return LogitNormalDraws(self.mean, self.std)


class ModeTimesteps(TimestepsBase):
    """Draw more steps from the middle, and still some at both ends (Esser et al. 2024, Stable Diffusion 3, Eq. 20)."""

    kind: Literal["mode"] = "mode"
    is_weighted: ClassVar[bool] = True
    scale: float = Field(1.29, ge=-1, le=1.75, description="How strongly. 0 is uniform, below 0 favours the ends.")

    def build(self, objective: ObjectiveConfig, timesteps: int) -> TimestepSampler:
        """Draw more of the steps in the middle."""
        from ddpm_cli.diffusion.objectives.timestep_draws import ModeDraws

        return ModeDraws(self.scale)


class LogNormalTimesteps(TimestepsBase):
    """Draw log sigma from a normal (Karras et al. 2022, EDM, Table 1). With edm t has this very level, else the nearest."""

    kind: Literal["log-normal"] = "log-normal"
    is_weighted: ClassVar[bool] = True
    p_mean: float = Field(-1.2, ge=-10, le=10, description="Mean of log sigma, sigma = sqrt((1-abar)/abar).")
    p_std: float = Field(1.2, gt=0, le=10, description="Standard deviation of log sigma.")

    def build(self, objective: ObjectiveConfig, timesteps: int) -> TimestepSampler:
        """Draw any level for a network that is told its noise, steps for others."""
        from ddpm_cli.diffusion.objectives.timestep_draws import LogNormalDraws

        return LogNormalDraws(self.p_mean, self.p_std, between_steps=objective.parameterization.knows_any_level)


class LaplaceTimesteps(TimestepsBase):
    """Draw the log SNR from a Laplace distribution (Hang et al. 2024). With edm t has this very level, else the nearest."""

    kind: Literal["laplace"] = "laplace"
    is_weighted: ClassVar[bool] = True
    mean: float = Field(0.0, ge=-20, le=20, description="Mean of the log SNR, abar/(1-abar). Above 0 it favours little noise.")
    scale: float = Field(0.5, gt=0, le=10, description="Scale of the log SNR; its standard deviation is 1.41 times that.")

    def build(self, objective: ObjectiveConfig, timesteps: int) -> TimestepSampler:
        """Draw any level for a network that is told its noise, steps for others."""
        from ddpm_cli.diffusion.objectives.timestep_draws import LaplaceDraws

        return LaplaceDraws(self.mean, self.scale, between_steps=objective.parameterization.knows_any_level)


class LossAwareTimesteps(TimestepsBase):
    """Draw t by the root mean square of its last losses, weighted to stay unbiased (Nichol & Dhariwal 2021, Sec. 3.3)."""

    kind: Literal["loss-aware"] = "loss-aware"
    history: int = Field(
        10, ge=1, le=1000, description="Losses that are kept for each t. Until each t has as many, draws are uniform."
    )
    uniform_share: float = Field(0.001, gt=0, le=1, description="Share of uniform draws.")

    def build(self, objective: ObjectiveConfig, timesteps: int) -> TimestepSampler:
        """Draw by the losses of one run, which it remembers."""
        from ddpm_cli.diffusion.objectives.timestep_draws import LossAwareDraws

        return LossAwareDraws(timesteps, self.history, self.uniform_share)


TimestepsConfig = Annotated[
    TimestepsBase,
    OneOf(
        "ddpm.timesteps",
        UniformTimesteps,
        StratifiedTimesteps,
        LogitNormalTimesteps,
        ModeTimesteps,
        LogNormalTimesteps,
        LaplaceTimesteps,
        LossAwareTimesteps,
    ),
]


class ParameterizationBase(Choice):
    """Predict one thing or another by the network."""

    keeps_images: ClassVar[bool] = True
    """Whether x0_hat of an image without noise is the image, whatever the network says, as a consistency model wants it."""
    lets_schedule_learn: ClassVar[bool] = False
    """Whether it is known how its error depends on the schedule, which a learned one is trained by."""

    @property
    def knows_any_level(self) -> bool:
        """Tell whether the network is told how much noise there is, not which step of a table it is."""
        return False

    @abstractmethod
    def build(self) -> Prediction:
        """Build what turns the network's output into x_0 and eps."""


class EpsParameterization(ParameterizationBase):
    """Predict the noise (Ho et al. 2020)."""

    kind: Literal["eps"] = "eps"
    lets_schedule_learn: ClassVar[bool] = True
    level_input: Literal["step", "log-sigma"] = Field(
        "step", description="What the network is told of the noise: its step in the table, or log(sigma/alpha)."
    )

    @property
    def knows_any_level(self) -> bool:
        """Tell whether the network is told log(sigma/alpha)."""
        return self.level_input == "log-sigma"

    def build(self) -> Eps:
        """Build what turns the network's output into x_0 and eps."""
        from ddpm_cli.diffusion.prediction import Eps

        return Eps(self.level_input)


class X0Parameterization(ParameterizationBase):
    """Predict the image (Ho et al. 2020, Sec. 3.2)."""

    kind: Literal["x0"] = "x0"
    keeps_images: ClassVar[bool] = False
    lets_schedule_learn: ClassVar[bool] = True

    def build(self) -> X0:
        """Build what turns the network's output into x_0 and eps."""
        from ddpm_cli.diffusion.prediction import X0

        return X0()


class VParameterization(ParameterizationBase):
    """Predict the velocity sqrt(abar) eps - sqrt(1 - abar) x_0 (Salimans & Ho 2022)."""

    kind: Literal["v"] = "v"
    lets_schedule_learn: ClassVar[bool] = True

    def build(self) -> V:
        """Build what turns the network's output into x_0 and eps."""
        from ddpm_cli.diffusion.prediction import V

        return V()


class FlowParameterization(ParameterizationBase):
    """Predict the velocity of the straight path, eps - x_0 (Lipman et al. 2023, Liu et al. 2023)."""

    kind: Literal["flow"] = "flow"

    def build(self) -> FlowVelocity:
        """Build what turns the network's output into x_0 and eps."""
        from ddpm_cli.diffusion.prediction import FlowVelocity

        return FlowVelocity()


class EdmParameterization(ParameterizationBase):
    """Predict EDM's preconditioned mixture of image and noise (Karras et al. 2022). Train it with timesteps = log-normal."""

    kind: Literal["edm"] = "edm"
    sigma_data: float = Field(0.5, gt=0, le=10, description="Standard deviation of the images in [-1, 1].")

    @property
    def knows_any_level(self) -> bool:
        """Tell that it is told log(sigma/alpha)."""
        return True

    def build(self) -> Edm:
        """Build what turns the network's output into x_0 and eps."""
        from ddpm_cli.diffusion.prediction import Edm

        return Edm(self.sigma_data)


ParameterizationConfig = Annotated[
    ParameterizationBase,
    OneOf(
        "ddpm.parameterizations",
        EpsParameterization,
        X0Parameterization,
        VParameterization,
        EdmParameterization,
        FlowParameterization,
    ),
]


class LossBase(Choice):
    """Compute a loss."""

    is_bound: ClassVar[bool] = False
    """Whether it holds the variational bound, which is a mean over all steps alike, and takes `levels`, the values of a pixel."""
    is_weighted: ClassVar[bool] = True
    """Whether objective.weighting counts in it."""
    variances: ClassVar[tuple[ModelVariance, ...]] = ("fixed-small", "fixed-large")
    """What objective.variance may be; the first is meant by "auto"."""

    is_staged: ClassVar[bool] = False
    """Whether it changes while the budget is used up, see `build_at`."""

    @abstractmethod
    def build(self, objective: ObjectiveConfig) -> Loss:
        """Build the loss of each image, of the objective's other parts; of a staged one that of the end of training."""

    def build_at(self, objective: ObjectiveConfig, share: float) -> Loss:
        """Build the loss of training when this share of the budget is used, in [0, 1]."""
        return self.build(objective)


class SimpleLoss(LossBase):
    """Take the squared error of the prediction, L_simple (Ho et al. 2020, Eq. 14)."""

    kind: Literal["simple"] = "simple"

    def build(self, objective: ObjectiveConfig) -> Loss:
        """Build the loss, of the objective's prediction and weighting."""
        from ddpm_cli.diffusion.objectives.losses import p_losses

        return partial(p_losses, prediction=objective.parameterization.build(), weighting=objective.weighting.build())


class VlbLoss(LossBase):
    """Take the variational bound in bits per dimension, L_vlb (Ho et al. 2020, Eq. 5)."""

    kind: Literal["vlb"] = "vlb"
    is_bound: ClassVar[bool] = True
    is_weighted: ClassVar[bool] = False
    variances: ClassVar[tuple[ModelVariance, ...]] = ("fixed-small", "fixed-large", "learned-range")

    def build(self, objective: ObjectiveConfig) -> Loss:
        """Build the loss, of the objective's prediction and variance."""
        from ddpm_cli.diffusion.objectives.losses import vlb_losses

        return partial(vlb_losses, prediction=objective.parameterization.build(), variance=objective.reverse_variance)


class HybridLoss(LossBase):
    """Add to L_simple a share of L_vlb that trains the variance alone (Nichol & Dhariwal 2021, Eq. 16)."""

    kind: Literal["hybrid"] = "hybrid"
    is_bound: ClassVar[bool] = True
    variances: ClassVar[tuple[ModelVariance, ...]] = ("learned-range",)
    vlb_share: float = Field(0.001, gt=0, description="Share of L_vlb, the paper's lambda.")

    def build(self, objective: ObjectiveConfig) -> Loss:
        """Build the loss, of the objective's prediction and weighting."""
        from ddpm_cli.diffusion.objectives.losses import hybrid_losses

        prediction, weighting = objective.parameterization.build(), objective.weighting.build()
        return partial(hybrid_losses, prediction=prediction, weighting=weighting, vlb_share=self.vlb_share)


class ConsistencyLoss(LossBase):
    """Compare what the network says at two levels, closer and closer (Song & Dhariwal 2023; Geng et al. 2024)."""

    kind: Literal["consistency"] = "consistency"
    is_staged: ClassVar[bool] = True
    first_distance: float = Field(
        0.5, gt=0, le=1, description="Distance of the two levels when training begins. At 1 the lower one is the image itself."
    )
    last_distance: float = Field(0.03, gt=0, le=1, description="Distance at the end of training; that of the held-out loss.")
    pseudo_huber: float | None = Field(
        0.00054, gt=0, description="Error per number from which on it counts linearly (Song & Dhariwal 2023). none squares it."
    )
    ends: Literal["images", "teacher"] = Field(
        "images",
        description="Where the trajectories of training end: at the images, or at what the teacher makes of them, which keeps "
        "guidance that it has learned (Song et al. 2023, consistency distillation).",
    )
    guidance: GuidanceConfig = Field(GuidanceConfig(), description="Guidance of the teacher, which becomes the network's own.")

    @property
    def needs_teacher(self) -> bool:
        """Tell whether training asks the teacher, and not only starts from its weights."""
        return self.ends == "teacher" or self.guidance != GuidanceConfig()

    def build(self, objective: ObjectiveConfig) -> Loss:
        """Build the loss at the last distance, so that held-out losses compare."""
        return self.build_at(objective, 1.0)

    def build_at(self, objective: ObjectiveConfig, share: float) -> Loss:
        """Build the loss at the distance that the levels have then."""
        from ddpm_cli.diffusion.objectives.consistency import consistency_losses, distance_at

        return partial(
            consistency_losses,
            prediction=objective.parameterization.build(),
            weighting=objective.weighting.build(),
            distance=distance_at(share, self.first_distance, self.last_distance),
            pseudo_huber=self.pseudo_huber,
        )

    @model_validator(mode="after")
    def _distance_shrinks(self) -> ConsistencyLoss:
        if self.last_distance > self.first_distance:
            raise ValueError(f"last_distance ({self.last_distance:g}) must not exceed first_distance ({self.first_distance:g})")
        return self


LossConfig = Annotated[LossBase, OneOf("ddpm.losses", SimpleLoss, VlbLoss, HybridLoss, ConsistencyLoss)]


class WeightingBase(Choice):
    """Weight the noise levels in L_simple."""

    @property
    def told(self) -> WeightingBase:
        """Name the weighting of losses that are told and compared; training may weight them further."""
        return self

    @abstractmethod
    def build(self) -> Weighting:
        """Build what says how much each level of noise counts in losses that are told."""

    def build_uncertainty(self, device: torch.device) -> Uncertainty | None:
        """Build what learns in training how much more each level counts, on a device, for one run; None where nothing does."""
        return None


class SimpleWeighting(WeightingBase):
    """Take each parameterization's own squared error (Ho et al. 2020, Eq. 14)."""

    kind: Literal["simple"] = "simple"

    def build(self) -> Weighting:
        """Build the weighting."""
        return self.kind


class SnrWeighting(WeightingBase):
    """Weight the image's squared error by SNR, whatever is predicted (Salimans & Ho 2022, Sec. 4). For eps it is simple."""

    kind: Literal["snr"] = "snr"

    def build(self) -> Weighting:
        """Build the weighting."""
        return self.kind


class MinSnrWeighting(WeightingBase):
    """Weight the image's squared error by min(SNR, gamma), whatever is predicted (Hang et al. 2023, Sec. 3.4)."""

    kind: Literal["min-snr"] = "min-snr"
    gamma: float = Field(5.0, gt=0, description="Value at which SNR is cut off.")

    def build(self) -> Weighting:
        """Build the weighting."""
        from ddpm_cli.diffusion.objectives.weightings import MinSnr

        return MinSnr(self.gamma)


class VelocityWeighting(WeightingBase):
    """Take the squared error of the velocity eps - x_0, whatever is predicted (Li & He 2025, JiT). For flow it is nearly simple."""

    kind: Literal["velocity"] = "velocity"
    least_sigma: float = Field(0.05, gt=0, le=1, description="sigma where it is smaller, as the weight goes with 1/sigma^2.")

    def build(self) -> Weighting:
        """Build the weighting."""
        from ddpm_cli.diffusion.objectives.weightings import Velocity

        return Velocity(self.least_sigma)


class LearnedWeighting(WeightingBase):
    """Divide by the loss that a level of noise has, as a small network learns it (Kendall et al. 2018; Karras et al. 2024)."""

    kind: Literal["learned"] = "learned"
    learning_rate: float = Field(1e-2, gt=0, le=1, description="Learning rate of that network's own Adam.")

    @property
    def told(self) -> WeightingBase:
        """Name the plain squared error, so that losses compare with those of other runs, and of other times of this one."""
        return SimpleWeighting()

    def build(self) -> Weighting:
        """Build the weighting of the losses that are told."""
        return self.told.build()

    def build_uncertainty(self, device: torch.device) -> Uncertainty:
        """Build the network and its optimizer."""
        from ddpm_cli.core.compute.skipping import SKIPPING_DEVICES
        from ddpm_cli.diffusion.objectives.uncertainty import Uncertainty

        return Uncertainty(self.learning_rate, device, fused=device.type in SKIPPING_DEVICES)


WeightingConfig = Annotated[
    WeightingBase, OneOf("ddpm.weightings", SimpleWeighting, SnrWeighting, MinSnrWeighting, VelocityWeighting, LearnedWeighting)
]


class CouplingBase(Choice):
    """Give each image of a batch one of its draws of noise."""

    chooses: ClassVar[bool] = True
    """Whether the noise of an image depends on the image, so that no loss is a bound."""

    @abstractmethod
    def build(self) -> Coupling | None:
        """Build what hands the noise of a batch to its images; None leaves each with its own."""

    def memory(self, batch_size: int, image_bytes: int) -> int:
        """Tell the bytes that it takes for a batch of images of so many bytes in float32."""
        return 0


class IndependentCoupling(CouplingBase):
    """Give each image noise of its own (Ho et al. 2020, Alg. 1)."""

    kind: Literal["independent"] = "independent"
    chooses: ClassVar[bool] = False

    def build(self) -> None:
        """Build nothing."""
        return None


class OptimalTransportCoupling(CouplingBase):
    """Hand a batch's noise to its images by optimal transport, within each class (Pooladian et al. 2023; Tong et al. 2023)."""

    kind: Literal["optimal-transport"] = "optimal-transport"

    def build(self) -> Coupling:
        """Build what finds the permutation with the least sum of squared distances."""
        from ddpm_cli.diffusion.objectives.noise_draws import transported_noise

        return transported_noise

    def memory(self, batch_size: int, image_bytes: int) -> int:
        """Count images, images and noise in float64, the noise in its new order, and three matrices of products in float64."""
        return 6 * batch_size * image_bytes + 3 * 8 * batch_size**2


CouplingConfig = Annotated[CouplingBase, OneOf("ddpm.couplings", IndependentCoupling, OptimalTransportCoupling)]


class AutoguidanceConfig(Section):
    """Let the network learn predictions that are led away from those of its earlier self (Karras et al. 2024; Tang et al. 2025)."""

    scale: float = Field(1.0, ge=1, le=10, description="How far. 1 leads nowhere.")
    kept_at: float = Field(0.15, ge=0, le=1, description="Part of the budget after which the earlier self is kept.")
    start: float = Field(0.75, ge=0, le=1, description="Part of the budget from which it leads away.")

    @model_validator(mode="after")
    def _guide_is_there(self) -> AutoguidanceConfig:
        if self.kept_at >= self.start:
            raise ValueError(f"the earlier self is kept at {self.kept_at:g} of the budget and must be there before {self.start:g}")
        return self

    @property
    def more_passes(self) -> float:
        """Tell by how many forward passes, of two networks, it makes each step of the whole budget dearer."""
        return 2 * (1 - self.start) if self.scale > 1 else 0.0

    def build(self, prediction: Prediction) -> Autoguidance | None:
        """Build what leads training away, of networks of this prediction; None at scale 1."""
        from ddpm_cli.diffusion.objectives.autoguidance import Autoguidance

        return Autoguidance(prediction, self.scale, self.kept_at, self.start) if self.scale > 1 else None


class ObjectiveConfig(Section):
    """Say what the network predicts, the loss, and how training draws its steps."""

    parameterization: ParameterizationConfig = Field(EpsParameterization(), description="What the network predicts.")
    variance: Literal["auto", ModelVariance] = Field(
        "auto",
        description="Variance of a reverse step in the bound: beta-tilde, beta, or learned between them (Nichol & Dhariwal 2021). "
        "auto is learned-range for the loss hybrid, else fixed-small.",
    )
    loss: LossConfig = Field(SimpleLoss(), description="What is minimised.")
    weighting: WeightingConfig = Field(SimpleWeighting(), description="How much each noise level counts in L_simple.")
    timesteps: TimestepsConfig = Field(UniformTimesteps(), description="How training draws t.")
    noise_candidates: int = Field(
        1, ge=1, le=64, description="Draws of noise for each image, of which training takes the nearest to it (Li et al. 2024)."
    )
    coupling: CouplingConfig = Field(IndependentCoupling(), description="Which noise of a batch each of its images gets.")
    autoguidance: AutoguidanceConfig = Field(
        AutoguidanceConfig(), description="Guidance by an earlier self that the network learns, so that samples cost no more."
    )
    label_dropout: float = Field(
        0.1, ge=0, le=1, description="Share of labels that training hides, for guidance. Only with model.num_classes."
    )

    @property
    def further_networks(self) -> int:
        """Count the networks that training keeps beside the one that learns and its average: an earlier self, a teacher."""
        asks = isinstance(self.loss, ConsistencyLoss) and self.loss.needs_teacher
        return int(self.autoguidance.scale > 1) + int(asks)

    @property
    def chooses_noise(self) -> bool:
        """Tell whether the noise of an image depends on the image in training, so that samplers must not add any on their way."""
        return self.coupling.chooses or self.noise_candidates > 1

    def build_prediction(self) -> Prediction:
        """Build what turns the network's output into x_0 and eps."""
        return self.parameterization.build()

    def build_loss(self, levels: int | None = USUAL.levels) -> Loss:
        """Build the loss of each image; of a staged one that of the end of training.

        Args:
            levels: Values that a pixel has, which a bound depends on; None for floats, of which there is no bound.
        """
        loss: Any = self.loss.build(self)
        return partial(loss, levels=levels) if self.loss.is_bound and levels not in (None, USUAL.levels) else loss

    def build_loss_at(self, share: float) -> Loss:
        """Build the loss of training when this share of the budget is used, in [0, 1]."""
        return self.loss.build_at(self, share)

    def build_autoguidance(self) -> Autoguidance | None:
        """Build what leads training away from an earlier self; it belongs to one run."""
        return self.autoguidance.build(self.build_prediction())

    def build_timesteps(self, timesteps: int) -> TimestepSampler:
        """Build what draws the steps of training out of T = `timesteps`; a loss-aware one belongs to one run."""
        return self.timesteps.build(self, timesteps)

    @property
    def reverse_variance(self) -> ModelVariance:
        """Resolve a variance that is "auto"."""
        return self.loss.variances[0] if self.variance == "auto" else self.variance

    @model_validator(mode="after")
    def _noise_may_be_chosen(self) -> ObjectiveConfig:
        if self.loss.is_bound and self.chooses_noise:
            remedy = 'coupling at "independent"' if self.coupling.chooses else "noise_candidates at 1"
            raise ValueError(f'noise that is chosen makes no bound of the loss "{self.loss.kind}"; leave {remedy}')
        if self.coupling.chooses and self.noise_candidates > 1:
            raise ValueError(
                f'noise is chosen twice; leave noise_candidates at 1, or coupling at "independent", not "{self.coupling.kind}"'
            )
        return self

    @model_validator(mode="after")
    def _every_part_is_trained(self) -> ObjectiveConfig:
        variance, loss = self.reverse_variance, self.loss.kind
        if variance == "learned-range" and variance not in self.loss.variances:
            raise ValueError(
                f'variance "learned-range" is not trained by the loss "{loss}"; set objective.loss = "hybrid" or "vlb"'
            )
        if variance not in self.loss.variances:
            raise ValueError(f'the loss "{loss}" learns the variance, it cannot be "{variance}"; set objective.variance = "auto"')
        if self.loss.is_bound and self.timesteps.is_weighted:
            raise ValueError(
                f'timesteps "{self.timesteps.kind}" makes no bound of the loss "{loss}"; use uniform, stratified or loss-aware'
            )
        if self.loss.is_bound and self.loss.is_weighted and self.weighting.told != self.weighting:
            raise ValueError(
                f'the weighting "{self.weighting.kind}" would weight the bound in the loss "{loss}" too, a mean over all t '
                "alike; choose another one"
            )
        if self.autoguidance.scale > 1 and (self.loss.is_bound or self.loss.is_staged):
            raise ValueError(f'autoguidance does not go with the loss "{loss}"; set objective.autoguidance.scale = 1')
        if isinstance(self.loss, ConsistencyLoss) and not self.parameterization.keeps_images:
            raise ValueError(
                f'the loss "{loss}" needs a parameterization that leaves an image without noise as it is: eps, v, edm or flow, '
                f'not "{self.parameterization.kind}"'
            )
        if not self.loss.is_weighted and not isinstance(self.weighting, SimpleWeighting):
            raise ValueError(f'weighting "{self.weighting.kind}" has no effect on the loss "{loss}"; leave it at "simple"')
        return self
