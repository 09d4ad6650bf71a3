"""Add a loss: `--set objective.loss=pseudo-huber`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from ddpm_cli.config.schema.objective import LossBase, ObjectiveConfig
from ddpm_cli.diffusion.denoise import Network
from ddpm_cli.diffusion.forward import Levels, noised
from ddpm_cli.diffusion.objectives.losses import Loss
from ddpm_cli.diffusion.schedules import NoiseSchedule


class PseudoHuberLoss(LossBase):
    """Take the squared error, which grows like a distance for images that are far off (Song & Dhariwal 2023, Eq. 5)."""

    kind: Literal["pseudo-huber"] = "pseudo-huber"
    is_weighted = False
    c: float = Field(0.1, gt=0, le=100, description="Root mean square error from which on it grows like a distance.")

    def build(self, objective: ObjectiveConfig) -> Loss:
        """Build the loss of each image, of what the objective predicts."""
        prediction = objective.build_prediction()

        def loss(network: Network, x_0: Tensor, t: Tensor, eps: Tensor, schedule: NoiseSchedule) -> Tensor:
            at = Levels.of_steps(schedule, t, x_0)
            output = network(*prediction.network_input(noised(x_0, eps, at), at)).float()
            squared = (output - prediction.target(x_0, eps, at)).square().mean(dim=(1, 2, 3))
            return 2 * self.c * ((squared + self.c**2).sqrt() - self.c)

        return loss
