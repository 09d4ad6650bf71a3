"""What every section of the config is made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic_core import core_schema

from ddpm_cli.core.extensions import subclasses
from ddpm_cli.core.io.paths import parse_path, path_text

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

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


class Choice(Section):
    """Base of what is chosen by `kind`: each class below it has its own kind and options, and builds what it stands for."""

    kind: str


class OneOf:
    """Annotate a field as one of several classes, told apart by `kind`; it is the one list of them.

    To type checkers the field is of the base class, which is all that may be known of a class from another package.

    Args:
        group: Entry point group under which other packages add theirs, see `core.extensions`; an entry is named as its kind.
        members: The classes of this package.
        default: The kind that is meant where none is named; None asks for one.

    Attributes:
        members: All classes by kind.

    Raises:
        ExtensionError: If one of another package is no such class, or its kind is taken.
    """

    def __init__(self, group: str, *members: type[Choice], default: str | None = None) -> None:
        self.default = default
        self.members = subclasses(group, {kind_of(member): member for member in members}, Choice, kind_of)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {kind: handler.generate_schema(member) for kind, member in self.members.items()}
        return core_schema.no_info_before_validator_function(
            self._with_kind, core_schema.tagged_union_schema(choices, discriminator="kind")
        )

    def _with_kind(self, value: Any) -> Any:
        value = kind_alone(value)
        return {"kind": self.default, **value} if self.default and isinstance(value, dict) else value


def kind_of(member: type[Choice]) -> str:
    """Read off the kind of a class that can be chosen."""
    return str(member.model_fields["kind"].default)


def kind_alone(value: Any) -> Any:
    """Let `schedule = "cosine"` stand for `schedule = { kind = "cosine" }`."""
    return {"kind": value} if isinstance(value, str) else value


def one_alone(value: Any) -> Any:
    """Let `trackers = "wandb"` stand for `trackers = ["wandb"]`."""
    return (value,) if isinstance(value, str) else value
