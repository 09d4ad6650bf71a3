"""What every section of the config is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """Base of all sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def kind_alone(value: Any) -> Any:
    """Let `schedule = "cosine"` stand for `schedule = { kind = "cosine" }`."""
    return {"kind": value} if isinstance(value, str) else value


def one_alone(value: Any) -> Any:
    """Let `trackers = "wandb"` stand for `trackers = ["wandb"]`."""
    return (value,) if isinstance(value, str) else value
