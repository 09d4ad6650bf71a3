"""Describe the config's `[optimizer]`: how the gradient moves the weights, and how the learning rate goes."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from ddpm_cli.config.schema.section import Choice, OneOf, Share

if TYPE_CHECKING:
    from torch import nn, optim


class OptimizerBase(Choice):
    """Move the weights; what all optimizers have in common, the course of the learning rate, stays when another kind is named."""

    keeps_options: ClassVar[bool] = True
    moments: ClassVar[str] = "those of Adam"
    """What it keeps of the gradients so far; a run can go on with another kind only where that keeps the same."""

    lr: float = Field(2e-4, gt=0, description="Peak learning rate.")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Decay rates of the two moments.")
    eps: float = Field(1e-8, gt=0, description="Number that is added to the denominator.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay.")
    warmup_steps: int = Field(0, ge=0, description="Steps over which the learning rate rises from 0.")
    decay: Literal["constant", "linear", "cosine"] = Field("constant", description="How the learning rate falls over the budget.")
    final_lr_share: float = Field(0.0, ge=0, le=1, description="Share of lr that is left at the end of the decay.")

    @abstractmethod
    def build(self, network: nn.Module, *, fused: bool) -> optim.Adam:
        """Build the optimizer of a network's parameters.

        Args:
            network: Where its weights lie is where the moments will. Those that are frozen are none of its business, see `trained`.
            fused: Move all parameters by one kernel, which can skip a step by itself, see `core.compute.skipping`.
        """

    def common(self) -> dict[str, Any]:
        """List the arguments that every optimizer of torch takes."""
        return {"lr": self.lr, "betas": self.betas, "eps": self.eps, "weight_decay": self.weight_decay}


def trained(network: nn.Module) -> list[nn.Parameter]:
    """List the parameters that get a gradient; the others are frozen (start.freeze)."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


class AdamOptimizer(OptimizerBase):
    """Train by Adam (Kingma & Ba 2015)."""

    kind: Literal["adam"] = "adam"

    def build(self, network: nn.Module, *, fused: bool) -> optim.Adam:
        """Build torch's Adam."""
        from torch import optim

        return optim.Adam(trained(network), **self.common(), fused=fused)


class AdamWOptimizer(OptimizerBase):
    """Train by Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    kind: Literal["adamw"] = "adamw"

    def build(self, network: nn.Module, *, fused: bool) -> optim.Adam:
        """Build torch's AdamW."""
        from torch import optim

        return optim.AdamW(trained(network), **self.common(), fused=fused)


class MuonOptimizer(OptimizerBase):
    """Train matrices and convolutions by Muon (Jordan et al. 2024), the rest by AdamW (Loshchilov & Hutter 2019)."""

    kind: Literal["muon"] = "muon"
    moments: ClassVar[str] = "those of Muon"
    matrix_lr: float = Field(
        8e-3, gt=0, description="Peak learning rate of matrices and convolutions; lr is that of all else, which AdamW moves."
    )
    momentum: Share = Field(0.95, description="Share of the old momentum that each step keeps.")
    ns_steps: int = Field(5, ge=1, le=20, description="Iterations of Newton and Schulz, which make an update orthogonal.")

    def build(self, network: nn.Module, *, fused: bool) -> optim.Adam:
        """Build Muon; what reads the image and what writes it, norms, biases and embeddings are moved by AdamW."""
        from ddpm_cli.core.compute.muon import Muon, inner_matrices

        matrices = [weight for weight in inner_matrices(network) if weight.requires_grad]
        inner = {id(weight) for weight in matrices}
        return Muon(
            [weight for weight in trained(network) if id(weight) not in inner],
            matrices,
            **self.common(),
            matrix_lr=self.matrix_lr,
            momentum=self.momentum,
            ns_steps=self.ns_steps,
            fused=fused,
        )


OptimizerConfig = Annotated[OptimizerBase, OneOf("ddpm.optimizers", AdamOptimizer, AdamWOptimizer, MuonOptimizer, default="adam")]
