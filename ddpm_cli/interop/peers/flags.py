"""Read the flags that another program trained a model with, as they stand in its command or its flagfile."""

from __future__ import annotations

import math
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ddpm_cli.core.io.files import printable
from ddpm_cli.errors import RequestError

OPTION = "--flags"
TRUE, FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


@dataclass
class Flags:
    """Hold the flags by name, and what nobody has asked for yet.

    Attributes:
        given: The texts that each flag was given, at least one.
    """

    given: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def text(self, name: str, choices: Collection[str] = ()) -> str | None:
        """Give a flag's text; None if it was not given.

        Raises:
            RequestError: If it is none of the choices, where there are any.
        """
        texts = self.given.get(name)
        if texts is None:
            return None
        if choices and texts[-1] not in choices:
            raise _wrong(name, texts[-1], " or ".join(choices))
        return texts[-1]

    def number(self, name: str) -> float | None:
        """Give a flag's number; None if it was not given.

        Raises:
            RequestError: If it is none.
        """
        text = self.text(name)
        try:
            number = None if text is None else float(text)
        except ValueError:
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise _wrong(name, text or "", "a number")
        return number

    def number_or(self, name: str, usual: float) -> float:
        """Give a flag's number, which may be 0; what is usual if it was not given.

        Raises:
            RequestError: If it is none.
        """
        number = self.number(name)
        return usual if number is None else number

    def count(self, name: str) -> int | None:
        """Give a flag's whole number, -1 (which stands for none) or above 0; None if it was not given, or is -1.

        Raises:
            RequestError: If it is none.
        """
        text = self.text(name)
        if text is None or text == "-1":
            return None
        if not text.isdecimal() or not 0 < int(text[:9]) <= 1_000_000:
            raise _wrong(name, text, "a whole number above 0")
        return int(text[:9])

    def truth(self, name: str) -> bool | None:
        """Give whether a flag is set; None if it was not given.

        Raises:
            RequestError: If its text is neither true nor false.
        """
        text = (self.text(name) or "").lower()
        if name not in self.given:
            return None
        if text not in (*TRUE, *FALSE):
            raise _wrong(name, text, "True or False")
        return text in TRUE

    def counts(self, name: str) -> list[int] | None:
        """Give the whole numbers of a flag that was given several times, or once with commas; None if it was not given.

        Raises:
            RequestError: If one is none.
        """
        texts = self.given.get(name)
        if texts is None:
            return None
        numbers = [number.strip() for text in texts for number in text.strip("[]()").split(",") if number.strip()]
        if not all(number.isdecimal() and len(number) < 7 for number in numbers):
            raise _wrong(name, ",".join(texts), "whole numbers")
        return [int(number) for number in numbers]


def words(text: str) -> tuple[str, ...]:
    """Take the names of flags apart."""
    return tuple(text.split())


def read_flags(text: str | None) -> Flags:
    """Read a line of flags: `--name value`, `--name=value`, or `--name` alone, which is true.

    Raises:
        RequestError: If it is no such line.
    """
    given: dict[str, list[str]] = {}
    for name, value in _pairs(text or ""):
        given.setdefault(name, []).append(value)
    return Flags(given)


def check_known(flags: Flags, program: str, read: Collection[str], without_effect: Collection[str]) -> None:
    """Refuse flags that a program has not.

    Raises:
        RequestError: With those that are read.
    """
    unknown = [name for name in flags.given if name not in read and name not in without_effect]
    if unknown:
        raise RequestError(
            f"{OPTION} names --{printable(unknown[0])}, which {program} has not.",
            f"These are read: {', '.join('--' + name for name in sorted(read))}.",
        )


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise RequestError(f"{OPTION} cannot be read ({error}).", 'Write for example --flags "--num_heads 4".') from error
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise RequestError(
                f"{OPTION} has {printable(word)!r} where the name of a flag is expected.",
                'Write them as in the other program, in quotes: --flags "--image_size 64 --num_heads 4"',
            )
        name, equals, value = word.removeprefix("--").partition("=")
        if not equals:
            value = words.pop(0) if words and not words[0].startswith("--") else "true"
        yield name, value


def _wrong(name: str, text: str, wanted: str) -> RequestError:
    return RequestError(f"{OPTION} has --{name} {printable(text)}, which is not {wanted}.", f"Correct it in {OPTION}.")
