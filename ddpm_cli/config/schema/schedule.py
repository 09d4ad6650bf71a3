"""Describe the config's `[schedule]`: every noise schedule and what can be said about it."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from ddpm_cli.config.schema.section import Choice, FilePath, OneOf
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.errors import ScheduleError

if TYPE_CHECKING:
    from ddpm_cli.diffusion.flows import Flow, TrigFlow
    from ddpm_cli.diffusion.levels import Schedule, Table
    from ddpm_cli.diffusion.schedules import NoiseSchedule


UNSHIFTED_SIZE = 64
"""Pixels on a side of images whose shift by resolution is 1, as in Hoogeboom et al. 2023 (Simple diffusion)."""


class ProcessBase(Choice):
    """Say how much signal and noise there is at each moment."""

    has_betas: ClassVar[bool] = True
    """Whether it is a table of betas, which the variational bound and a learned variance are made of."""
    timesteps: int = Field(1000, ge=1, le=100_000, description="T, the number of noise levels.")

    @abstractmethod
    def build(self) -> Schedule:
        """Build the noise schedule, without torch.

        Raises:
            ScheduleError: If what it says makes no schedule.
        """

    def for_images(self, shape: tuple[int, int, int]) -> ProcessBase:
        """Say the same with what is left to the size of the images, (C, H, W), as numbers."""
        return self

    def self_contained(self) -> ProcessBase:
        """Say the same without a file that may be gone tomorrow.

        Raises:
            ScheduleError: If there is a file, and it cannot be used.
        """
        return self


class ScheduleBase(ProcessBase):
    """Make a noise schedule of betas."""

    logsnr_shift: float = Field(
        0.0,
        ge=-20,
        le=20,
        description="Added to log SNR. Take 2*log(64/size) for images larger than 64 pixels (Hoogeboom et al. 2023).",
    )
    zero_terminal_snr: bool = Field(
        False, description="Rescale so that no signal is left at the last step (Lin et al. 2024, Alg. 1). Not with eps-prediction."
    )

    @abstractmethod
    def make_betas(self) -> Table:
        """Make the betas, float64 [T], which `logsnr_shift` and `zero_terminal_snr` then change.

        Raises:
            ScheduleError: If they make no schedule.
        """

    def build(self) -> NoiseSchedule:
        """Build the tables of the betas, after the changes."""
        from ddpm_cli.diffusion.schedules import NoiseSchedule, adjusted

        schedule = NoiseSchedule.from_betas(self.make_betas())
        return adjusted(schedule, logsnr_shift=self.logsnr_shift, zero_terminal_snr=self.zero_terminal_snr)


class FormulaSchedule(ScheduleBase):
    def make_betas(self) -> Table:
        """Make the betas by the formula of this name, float64 [T]."""
        from ddpm_cli.diffusion.schedules import make_beta_schedule

        return make_beta_schedule(**self.model_dump(exclude={"logsnr_shift", "zero_terminal_snr"}))


class BetaRange(FormulaSchedule):
    beta_start: float = Field(1e-4, gt=0, lt=1, description="First beta for T = 1000. With another T it is scaled by 1000/T.")
    beta_end: float = Field(0.02, gt=0, lt=1, description="Last beta for T = 1000. With another T it is scaled by 1000/T.")

    @model_validator(mode="after")
    def _rises(self) -> BetaRange:
        if self.beta_start > self.beta_end:
            raise ValueError(f"beta_start ({self.beta_start}) must not exceed beta_end ({self.beta_end})")
        return self


class LinearSchedule(BetaRange):
    """Space betas evenly (Ho et al. 2020)."""

    kind: Literal["linear"] = "linear"


class ScaledLinearSchedule(BetaRange):
    """Space square roots of the betas evenly, as quadratic does, over latent diffusion's range (Rombach et al. 2022)."""

    kind: Literal["scaled-linear"] = "scaled-linear"
    beta_start: float = Field(0.00085, gt=0, lt=1, description="First beta for T = 1000. With another T it is scaled by 1000/T.")
    beta_end: float = Field(0.012, gt=0, lt=1, description="Last beta for T = 1000. With another T it is scaled by 1000/T.")


class QuadraticSchedule(BetaRange):
    """Space square roots of the betas evenly (Song et al. 2021, DDIM)."""

    kind: Literal["quadratic"] = "quadratic"


class CosineSchedule(FormulaSchedule):
    """Let alpha_bar follow a squared cosine (Nichol & Dhariwal 2021, Eq. 17)."""

    kind: Literal["cosine"] = "cosine"
    s: float = Field(0.008, ge=0, lt=1, description="Offset that keeps the first betas from being too small.")
    max_beta: float = Field(0.999, gt=0, lt=1, description="Betas are clipped at this value.")


class SigmoidSchedule(BetaRange):
    """Let betas follow a sigmoid over [-6, 6] (Xu et al. 2022, GeoDiff)."""

    kind: Literal["sigmoid"] = "sigmoid"


class TableSchedule(ScheduleBase):
    """Take betas or alpha_bar from a file. A run keeps the betas in its config, and no longer needs the file."""

    kind: Literal["table"] = "table"
    path: FilePath | None = Field(None, description="CSV or JSON with columns or keys beta(s), alpha_bar or alphas_cumprod.")
    values: Literal["betas", "alpha_bar"] | None = Field(None, description="What to read. It is needed if the file names nothing.")
    betas: tuple[float, ...] | None = Field(None, max_length=100_000, description="The betas themselves, instead of path.")

    @model_validator(mode="after")
    def _one_source(self) -> TableSchedule:
        if self.path is not None and self.betas is not None:
            raise ValueError("path and betas exclude each other; a run has its betas already")
        return self

    def make_betas(self) -> Table:
        """Take the betas of the table, float64 [T]."""
        import numpy as np

        return np.array(self.self_contained().betas)

    def self_contained(self) -> TableSchedule:
        """Hold the betas instead of the path of their file.

        Raises:
            ScheduleError: If there is no table, it cannot be read, or it has not T values.
        """
        from ddpm_cli.core.io.beta_table import read_schedule_table, require_length

        betas = self.betas
        if self.path is not None:
            path = user_path(self.path, "schedule.path", ScheduleError)
            betas = tuple(read_schedule_table(path, self.values, self.timesteps).tolist())
        if betas is None:
            raise ScheduleError('A schedule of kind "table" needs a table.', "Name its file: --set schedule.path=FILE")
        require_length("schedule.betas", len(betas), self.timesteps)
        return self.model_copy(update={"path": None, "values": None, "betas": betas})


class LearnedSchedule(FormulaSchedule):
    """Learn gamma = -log SNR by a monotone network, to lower the variance of the bound (Kingma et al. 2021, VDM)."""

    kind: Literal["learned"] = "learned"
    timesteps: int = Field(1000, ge=2, le=100_000, description="T, the number of noise levels.")
    gamma_min: float = Field(-9.0, ge=-20, le=20, description="-log SNR of the first step, before any training.")
    gamma_max: float = Field(10.0, ge=-20, le=20, description="-log SNR of the last step, before any training.")
    endpoint_range: float = Field(
        0.0, ge=0, le=10, description="How far training may move each endpoint to tighten the bound. 0 keeps them fixed."
    )
    learning_rate: float = Field(1e-2, gt=0, description="Learning rate of the schedule's own Adam.")

    @model_validator(mode="after")
    def _endpoints_apart(self) -> LearnedSchedule:
        if self.gamma_max - self.gamma_min < 2 * self.endpoint_range + 1:
            raise ValueError("gamma_max - gamma_min must be at least 1 more than twice endpoint_range")
        if self.zero_terminal_snr:
            raise ValueError("zero_terminal_snr is not for a learned schedule, whose gamma stays finite; raise gamma_max instead")
        return self


class PathBase(ProcessBase):
    has_betas: ClassVar[bool] = False
    timesteps: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="T: the network is told T * t, t in [0, 1]. Training draws any t; samplers take at most T steps.",
    )


class FlowSchedule(PathBase):
    """Go straight from image to noise: flow matching, rectified flow (Lipman et al. 2023, Liu et al. 2023)."""

    kind: Literal["flow"] = "flow"
    shift: Annotated[float, Field(ge=0.001, le=1000)] | Literal["resolution"] = Field(
        1.0,
        description="Factor on sigma/alpha at each t (Esser et al. 2024, Eq. 23). Above 1 gives more steps to much noise. "
        "resolution is sqrt(height * width) / 64.",
    )

    def build(self) -> Flow:
        """Build the straight path; one for images of 64 pixels where their size is not known yet."""
        from ddpm_cli.diffusion.flows import Flow

        return Flow(self.timesteps, 1.0 if self.shift == "resolution" else self.shift)

    def for_images(self, shape: tuple[int, int, int]) -> FlowSchedule:
        """Take the shift from the size of the images, (C, H, W), if it is left to that."""
        if self.shift != "resolution":
            return self
        return self.model_copy(update={"shift": math.sqrt(shape[1] * shape[2]) / UNSHIFTED_SIZE})


class TrigFlowSchedule(PathBase):
    """Go from image to noise on a quarter of a circle (Albergo et al. 2023; Lu & Song 2024, TrigFlow)."""

    kind: Literal["trig-flow"] = "trig-flow"

    def build(self) -> TrigFlow:
        """Build the path on a circle."""
        from ddpm_cli.diffusion.flows import TrigFlow

        return TrigFlow(self.timesteps)


ScheduleConfig = Annotated[
    ProcessBase,
    OneOf(
        "ddpm.schedules",
        LinearSchedule,
        ScaledLinearSchedule,
        QuadraticSchedule,
        CosineSchedule,
        SigmoidSchedule,
        TableSchedule,
        LearnedSchedule,
        FlowSchedule,
        TrigFlowSchedule,
    ),
]
