"""Describe the config's `[start]`: trained weights that a new run begins with."""

from __future__ import annotations

from pydantic import Field, model_validator

from ddpm_cli.config.schema.section import FilePath, Section


class StartConfig(Section):
    """Begin with trained weights instead of random ones; the optimizer and the average begin anew."""

    weights: FilePath | None = Field(
        None,
        description="Run, checkpoint, exported file or folder of diffusers whose weights the run begins with, where shapes fit. "
        "Unless a preset is named, the run also takes over its schedule, model and objective.",
    )
    freeze: str | None = Field(
        None, description="Block of the network, such as down.0. The weights up to it, its own included, stay as they are."
    )

    @model_validator(mode="after")
    def _frozen_weights_were_trained(self) -> StartConfig:
        if self.freeze is not None and self.weights is None:
            raise ValueError("freeze keeps trained weights as they are, and weights names none")
        return self
