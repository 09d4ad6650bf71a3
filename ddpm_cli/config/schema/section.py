"""Share what every section of the config is made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from inspect import isabstract
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeGuard

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo
from pydantic_core import PydanticKnownError, core_schema

from ddpm_cli.core.extensions import extensions
from ddpm_cli.core.io.files import readable
from ddpm_cli.core.io.paths import parse_path, path_text

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


def path_from(value: Any) -> Any:
    """Make a path of text, which may be a file: URI; what is no text is left for pydantic to refuse."""
    return parse_path(value) if isinstance(value, str | Path) else value


# Whether it can be reached is asked where it is used: a stored config names folders of the machine that it was trained on.
FilePath = Annotated[Path, BeforeValidator(path_from), PlainSerializer(path_text, when_used="json-unless-none")]


class Section(BaseModel):
    """Refuse unknown keys and changes; all sections are below it."""

    # Validators are built when they are first needed: a command needs few of all kinds, and is to start fast.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Choice(Section):
    """Build what a `kind` stands for: each class below it has its own kind and options."""

    kind: str
    keeps_options: ClassVar[bool] = False
    """Whether options that it shares with another kind stay when it is named in the place of that."""


STORED = "stored"
"""Key of the context of validation: the config is that of a model, which may be of use here without all that trained it."""


def is_stored(info: ValidationInfo) -> bool:
    """Tell whether it is a stored config that is looked at."""
    return bool(info.context and info.context.get(STORED))


class OneOf:
    """Annotate a field as one of several classes, told apart by `kind`; it is the one list of them.

    To type checkers the field is of the base class, which is all that may be known of a class from another package. Those are
    imported when a value is first looked at, and not with this package, which they import themselves.

    Args:
        group: Entry point group under which other packages add theirs, see `core.extensions`; an entry is named as its kind.
        members: The classes of this package.
        default: The kind that is meant where none is named; None asks for one.
        stand_in: Class that takes the place, in a stored config, of one that no installed package adds; none if None.
    """

    def __init__(
        self, group: str, *members: type[Choice], default: str | None = None, stand_in: type[Choice] | None = None
    ) -> None:
        self._group, self._own, self._default, self._stand_in = group, members, default, stand_in

    @cached_property
    def members(self) -> dict[str, type[Choice]]:
        """Find all classes by kind.

        Raises:
            ExtensionError: If one of another package is no such class, or its kind is taken.
        """

        def fits(value: object) -> TypeGuard[type[Choice]]:
            return isinstance(value, type) and issubclass(value, self._base) and not isabstract(value)

        return extensions(self._group, {kind_of(member): member for member in self._own}, fits, kind_of)

    @cached_property
    def _base(self) -> type[Choice]:
        """Find the nearest class that all members of this package are below; any of another package must be, too."""
        shared = [base for base in self._own[0].__mro__ if all(issubclass(member, base) for member in self._own)]
        return next(base for base in shared if base not in self._own)

    def __get_pydantic_core_schema__(self, base: type[Choice], handler: GetCoreSchemaHandler) -> CoreSchema:
        def validate(value: Any, info: ValidationInfo) -> Choice:
            return value if isinstance(value, base) else self._made(kind_alone(value), info)

        # What is written of a value is what its own class says.
        return core_schema.with_info_plain_validator_function(validate)

    def _made(self, value: Any, info: ValidationInfo) -> Choice:
        if not isinstance(value, Mapping):
            raise PydanticKnownError("model_attributes_type")
        kind = value.get("kind", self._default)
        if kind is None:
            raise PydanticKnownError("union_tag_not_found", {"discriminator": "'kind'"})
        if isinstance(kind, str) and kind not in self.members and self._stand_in and is_stored(info):
            return self._stand_in.model_validate(value)
        if not isinstance(kind, str) or kind not in self.members:
            expected = ", ".join(self.members)
            raise PydanticKnownError(
                "union_tag_invalid", {"discriminator": "'kind'", "tag": readable(str(kind)), "expected_tags": expected}
            )
        return self.members[kind].model_validate(value, context=info.context)


def kind_of(member: type[Choice]) -> str:
    """Read off the kind of a class that can be chosen."""
    return str(member.model_fields["kind"].default)


def kind_alone(value: Any) -> Any:
    """Let `schedule = "cosine"` stand for `schedule = { kind = "cosine" }`."""
    return {"kind": value} if isinstance(value, str) else value


def one_alone(value: Any) -> Any:
    """Let `trackers = "wandb"` stand for `trackers = ["wandb"]`."""
    return (value,) if isinstance(value, str) else value
