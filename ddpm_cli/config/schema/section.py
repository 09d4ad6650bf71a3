"""What every section of the config is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from ddpm_cli.core.io.paths import parse_path, path_text

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


def path_from(value: Any) -> Any:
    """A path from text, which may be a file: URI; what is no text is left for pydantic to refuse."""
    return parse_path(value) if isinstance(value, str | Path) else value


# Whether it can be reached is asked where it is used: a stored config names folders of the machine that it was trained on.
FilePath = Annotated[Path, BeforeValidator(path_from), PlainSerializer(path_text, when_used="json-unless-none")]


class Section(BaseModel):
    """Base of all sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def kind_alone(value: Any) -> Any:
    """Let `schedule = "cosine"` stand for `schedule = { kind = "cosine" }`."""
    return {"kind": value} if isinstance(value, str) else value


def one_alone(value: Any) -> Any:
    """Let `trackers = "wandb"` stand for `trackers = ["wandb"]`."""
    return (value,) if isinstance(value, str) else value
