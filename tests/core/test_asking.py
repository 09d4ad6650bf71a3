"""What can be asked for: each thing by itself, whoever asks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import pytest

from ddpm_cli.core.asking import Said, as_option, checked, fields_of
from ddpm_cli.errors import RequestError


class Meal(TypedDict, total=False):
    """What a guest may ask for."""

    eggs: Annotated[int | None, Said("N", "Eggs.", bits=3)]
    guests: Annotated[int | None, Said("N", "Guests.", least=0)]
    drink: Annotated[Literal["hot-tea", "milk"] | None, Said("NAME", "Drink.")]
    recipe_file: Annotated[str | Path | None, Said("FILE", "Recipe.")]
    salted: Annotated[bool | None, Said(None, "Salt.")]


def test_what_was_said_comes_back_as_it_is_spelled_here() -> None:
    given = {"eggs": 7, "guests": 0, "drink": "Hot Tea", "recipe_file": "file:///tmp/a%20b", "salted": False}
    read = {"eggs": 7, "guests": 0, "drink": "hot-tea", "recipe_file": Path("/tmp/a b"), "salted": False}
    assert checked(Meal, given) == read


def test_none_is_the_same_as_not_said() -> None:
    assert checked(Meal, dict.fromkeys(fields_of(Meal))) == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eggs": 0}, "--eggs must be at least 1, not 0."),
        ({"eggs": 8}, "--eggs must be below 2**3, not 8."),
        ({"guests": -1}, "--guests must be at least 0, not -1."),
        ({"drink": "wine"}, "There is no --drink 'wine'."),
        ({"eggs": "two"}, "--eggs cannot be 'two'."),
        ({"eggs": 2.5}, "--eggs cannot be 2.5."),
        ({"eggs": True}, "--eggs cannot be True."),
        ({"drink": 3}, "--drink cannot be 3."),
        ({"salted": "no"}, "--salted cannot be 'no'."),
        ({"recipe_file": ""}, "--recipe-file"),
        ({"egg": 1}, 'There is no argument egg; the nearest of eggs, guests, drink, recipe_file, salted is "eggs".'),
    ],
)
def test_what_cannot_be_is_named_as_its_user_knows_it(given: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as refused:
        checked(Meal, given)
    assert message in refused.value.message
    with pytest.raises(RequestError) as refused:
        checked(Meal, given, str)
    assert message.replace("--", "").replace("recipe-file", "recipe_file") in refused.value.message


def test_an_option_is_spelled_with_dashes() -> None:
    assert as_option("recipe_file") == "--recipe-file"
