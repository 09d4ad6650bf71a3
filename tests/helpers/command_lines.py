"""The command lines that README.md and the help of every command show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

import typer
from repository import ROOT

from ddpm_cli.cli.app import app

README = ROOT / "README.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OTHER_LANGUAGES = ("python", "toml")
BETWEEN_BACKTICKS = re.compile(r"`([^`]+)`")
ASSIGNMENT = re.compile(r"[A-Z_]+=")
COMMAND = re.compile(r"([A-Z_]+=\S+ )*(ddpm|python|torchrun|accelerate|sbatch) \S")
PLACEHOLDERS = {
    "[RUN]": "",
    "RUN...": "quick-001 quick-002",
    "A B": "shirt.png boot.png",
    "IMAGE MASK": "photo.png mask.png",
    "IMAGE": "photo.png",
    "FILE.toml": "schedules.toml",
    "RECORD.toml": "examples/speedrun/quick.toml",
    "check DATA": "check photos",
    "advise DATA": "advise photos",
    "import PATH": "import ddpm-cifar10-32",
    "DIR": "photos",
    "FOLDER": "photos",
}
REDIRECT = ">"


@dataclass(frozen=True)
class Line:
    """A command line.

    Attributes:
        words: As a shell splits them, without `> FILE` and `NAME=VALUE`.
        stdout: FILE.
    """

    words: tuple[str, ...]
    stdout: str | None = None

    def __str__(self) -> str:
        return shlex.join(self.words) + (f" > {self.stdout}" if self.stdout else "")


def line_of(text: str) -> Line | None:
    """What a line of a shell asks for; None if it is a comment, or something to install and test with, which .ci/run does."""
    words = list(dropwhile(ASSIGNMENT.match, shlex.split(text, comments=True)))
    if not words or words[0] in ("pip", "pytest"):
        return None
    if REDIRECT in words:
        return Line(tuple(words[: words.index(REDIRECT)]), words[words.index(REDIRECT) + 1])
    return Line(tuple(words))


def _of_block(block: str) -> Iterator[str]:
    for line in block.replace("\\\n", " ").splitlines():
        yield from line.split(" && ")


def _inline(text: str) -> Iterator[str]:
    for between in BETWEEN_BACKTICKS.findall(text):
        line = " ".join(between.split())
        if COMMAND.match(line):
            for placeholder, words in PLACEHOLDERS.items():
                line = re.sub(rf"(?<!\S){re.escape(placeholder)}(?!\S)", words, line)
            yield line.strip()


def in_readme(text: str) -> list[str]:
    """The command lines of a README: of its blocks, and between backticks.

    Raises:
        ValueError: If a block is of a language that nobody has thought of here.
    """
    found: list[str] = []
    for language, block in BLOCK.findall(text):
        if language == "bash":
            found += _of_block(block)
        elif language not in OTHER_LANGUAGES:
            raise ValueError(f"A block of {language or 'no language'}: are there commands in it?")
    return found + list(_inline(BLOCK.sub("", text)))


def in_help(text: str) -> list[str]:
    """The examples of a help text, which may be wrapped, and what stands between backticks."""
    before, _, examples = text.partition("For example:")
    return [" ".join(paragraph.split()) for paragraph in examples.split("\n\n") if paragraph.strip()] + list(_inline(before))


def helps() -> dict[str, str]:
    """The help text of every command, by its name."""
    found: dict[str, str] = {}

    def walk(command: Any, name: str) -> None:
        found[name] = command.help
        for word, child in getattr(command, "commands", {}).items():
            walk(child, f"{name} {word}")

    walk(typer.main.get_command(app), "ddpm")
    return found


def all_lines() -> list[Line]:
    """Each line of README.md and of all helps, once."""
    texts = in_readme(README.read_text(encoding="utf-8"))
    texts += [example for text in helps().values() for example in in_help(text)]
    return list(dict.fromkeys(line for line in map(line_of, texts) if line is not None))
