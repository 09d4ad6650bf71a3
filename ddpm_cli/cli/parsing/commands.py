"""Answer words that a command was not made for: say which were meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from ddpm_cli.core.names import as_known, close_to, meant, plain
from ddpm_cli.sampling.request import TUNED

ONE_DASH = re.compile(r"-[A-Za-z][\w-]{2,}(=.*)?", re.DOTALL)
LIKE_AN_OPTION = 0.8
LONG_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
"""What word processors make of a hyphen or two."""

OTHER_NAMES = {
    "sample": "generate draw gen infer inference predict run create make images denoise synthesize synthesise",
    "train": "fit learn start new",
    "resume": "continue restart go-on proceed",
    "evaluate": "test eval score measure metrics fid validate likelihood",
    "export": "convert save onnx safetensors dump",
    "import": "load from-diffusers",
    "inspect-schedule": "schedule schedules plot noise betas",
    "info": "show describe details inspect cat status",
    "compare": "diff versus vs",
    "ema": "average averages post-hoc-ema swa",
    "tune-sampler": "tune tune-steps optimize-sampler optimise-sampler align-your-steps",
    "distill": "distil consistency distillation few-steps one-step lcm ect",
    "sweep": "grid search experiment experiments grid-search",
    "speedrun": "race record leaderboard",
    "report": "html dashboard summary summarize",
    "bench": "benchmark speed profile time perf",
    "ls": "runs models dir",
    "ls presets": "presets",
    "ls datasets": "datasets",
    "ls samplers": "samplers",
    "doctor": "check diagnose env system",
    "img2img": "edit sdedit variations image-to-image",
    "inpaint": "fill repaint outpaint",
    "interpolate": "slerp morph blend",
    "config show": "settings options configuration",
    "config init": "init",
    "data check": "dataset data-check",
}
"""Other words for a command; never run, but answered with it."""
NO_COMMANDS = {
    "delete": "there is no command that deletes: a run is one folder below runs/, and removing it removes the run",
    "upgrade": "pip does that: pip install --upgrade ddpm-cli",
}
NO_COMMANDS |= dict.fromkeys(("rm", "remove", "del", "clean", "prune"), NO_COMMANDS["delete"])
NO_COMMANDS |= dict.fromkeys(("update",), NO_COMMANDS["upgrade"])


class Command(TyperCommand):
    """Say of a stray word, or an option with one dash, how to write what was meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments, or say what is wrong with them."""
        if ctx.resilient_parsing:  # a shell asks what it could complete
            return super().parse_args(ctx, args)
        for word, option in one_dash(args, options_of(self)):
            ctx.fail(f"{word} has one dash, which stands before options of one letter. Write {option}.")
        allowed, ctx.allow_extra_args = ctx.allow_extra_args, True
        try:
            rest = super().parse_args(ctx, args)
        except USAGE_ERROR as error:
            self._refuse_option(ctx, getattr(error, "option_name", None) or "")
            raise
        ctx.allow_extra_args = allowed
        if rest and not allowed:
            self._refuse_stray(ctx, rest)
        for parameter in self.params:
            if parameter.metavar in RUN_ARGUMENTS:
                self._refuse_no_run(ctx, ctx.params.get(parameter.name or ""))
        return rest

    def _refuse_option(self, ctx: Any, option: str) -> None:
        """Say of an option that is none here what other programs' name of it is called."""
        options = options_of(self)
        if option in options or not option.startswith("--"):
            return
        for key in _keys_called(option, self.name or ""):
            if (flag := OPTIONS.get(key)) in options:
                ctx.fail(f"No such option: {option}. It is called {flag} here.")
            if "--set" in options and (key.startswith("sample.") or "--preset" in options):
                ctx.fail(f"No such option: {option}. Write --set {key}=...")

    def _refuse_stray(self, ctx: Any, words: Sequence[str]) -> None:
        for word in words:
            if instead := what_was_meant(self, word):
                ctx.fail(f"{ctx.info_name} takes no {shown(word)} by itself. {instead}")
        takes = "arguments" if any(parameter.param_type_name == "argument" for parameter in self.params) else "options alone"
        ctx.fail(f"Got unexpected extra argument(s) ({' '.join(map(shown, words))}): {ctx.info_name} takes {takes}, see --help.")

    def _refuse_no_run(self, ctx: Any, found: Any) -> None:
        """Where the name of a run was expected and another choice's stands, say which option that is for."""
        for path in found if isinstance(found, list | tuple) else [found]:
            if path is not None and not is_there(Path(path)) and (instead := what_was_meant(self, str(path), runs=False)):
                ctx.fail(f"{shown(str(path))} is no run. {instead}")


USAGE_ERROR: Any = typer.BadParameter.__base__
"""click's, which typer has under another name since it brings its own."""
OPTIONS = {
    "optimizer.lr": "--lr",
    "train.batch_size": "--batch-size",
    "train.epochs": "--epochs",
    "train.steps": "--steps",
    "train.minutes": "--minutes",
    "train.seed": "--seed",
    "sample.sampler.steps": "--steps",
    "sample.guidance.scale": "--guidance",
    "data.kind": "--data",
    "data.root": "--data",
    "data.path": "--data",
    "data.size": "--size",
    "schedule.timesteps": "--timesteps",
    "schedule.kind": "--kind",
}
"""The option that sets a key, where a command has one."""
RUN_ARGUMENTS = ("RUN", "[RUN]", "RUN...", "RUN|IMAGES", "[RUN|IMAGES]")


def _keys_called(name: str, command: str) -> Sequence[str]:
    """The key, one at most, that a name without its section stands for; of several, the one in the section of the command."""
    from ddpm_cli.config.resolve.other_names import KEYS
    from ddpm_cli.config.resolve.outline import all_keys, choices

    if plain(name) in KEYS:
        return [KEYS[plain(name)]]
    own = [key for key in (*all_keys(), *choices()) if plain(key.rpartition(".")[2]) == plain(name)]
    return sorted(own, key=lambda key: not key.startswith(f"{command}."))[:1]


def is_there(path: Path) -> bool:
    """Tell whether there is something of that name here or below runs/."""
    import os

    return any(os.path.lexists(place) for place in (path, Path("runs") / path))


def shown(word: str) -> str:
    """Show the start of a word, without what could write over a terminal."""
    from ddpm_cli.core.io.files import printable

    return repr(printable(word))


def options_of(command: Any) -> list[str]:
    """List all options of a command, with their dashes."""
    return [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("-")]


def one_dash(words: Sequence[str], options: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Find words before a lone `--` that are an option of several letters but for one dash, each with how that is written.

    Args:
        words: As typed.
        options: Short and long ones. What begins with a short one may be its value, unless it is a long one letter by letter.
    """
    words = words[: words.index("--") if "--" in words else len(words)]
    for word, following in pairwise([*words, "-"]):
        if ONE_DASH.fullmatch(word) is None:
            continue
        name, equals, value = word.partition("=")
        close = close_to(name, [option for option in options if len(option) > len("--x")], LIKE_AN_OPTION)
        if close and (close == f"-{name}" or word[:2] not in options):
            yield word, f"{close}{equals}{value}" if equals or following.startswith("-") else f"{close} {following}"


# ------------------------------------------------------------------------------------------------------ what a word is


def what_was_meant(command: Any, word: str, *, runs: bool = True) -> str:
    """Say how to write what a stray word probably stands for, in one sentence; nothing if nobody knows.

    Args:
        command: That it was given to.
        word: As typed.
        runs: Whether it may be a run; else it is known to be none.
    """
    from ddpm_cli.errors import DdpmError

    options = options_of(command)
    if word[0:1] in LONG_DASHES:
        return f"Its dash is not a hyphen. Write --{word.lstrip(f'-{LONG_DASHES}')}."
    if plain(word) == "help":
        return "Write --help."
    if option := _option_as_setting(command, word):
        return f"Write {option}."
    try:
        for option, known in WORDS.items():
            if option in options and (value := known(word)):
                return f"Write {option} {value}."
        if "--preset" in options:
            for path in ("schedule", "data", "objective.parameterization"):
                if kind := _one_of(_kinds(path))(word):
                    return f"Write --set {path}={kind}."
        if runs and is_run(word):
            if "--run" in options:
                return f"Write --run {word}."
            return f"It is a run; go on with it by: ddpm resume {word}" if command.name == "train" else "It is a run."
    except (DdpmError, OSError, ValueError):
        return ""
    return ""


def _option_as_setting(command: Any, word: str) -> str:
    """How an option is written that stands there as NAME=VALUE; empty if there is none of that name."""
    name, equals, value = word.partition("=")
    if not equals or not name or not value:
        return ""
    named = {plain(option): (option, parameter) for parameter in command.params for option in parameter.opts if option[:2] == "--"}
    key = next(iter(_keys_called(name, command.name)), "")
    found = named.get(plain(name)) or named.get(plain(OPTIONS.get(key, "")))
    if found is None:
        return ""
    option, parameter = found
    return option if parameter.is_flag else f"{option} {value}"


def _one_of(names: Callable[[], Sequence[str]]) -> Callable[[str], str | None]:
    return lambda word: meant(word, names())


def _kinds(path: str) -> Callable[[], Sequence[str]]:
    def kinds() -> Sequence[str]:
        from ddpm_cli.config.resolve.outline import sections

        return list(sections()[path])

    return kinds


def _presets() -> Sequence[str]:
    from ddpm_cli.config.resolve.preset_files import preset_names

    return preset_names()


def _metrics() -> Sequence[str]:
    from ddpm_cli.metrics.registry import known_metrics

    return list(known_metrics())


def _formats() -> Sequence[str]:
    from ddpm_cli.interop.registry import known_formats

    return list(known_formats())


def _peers() -> Sequence[str]:
    from ddpm_cli.cli.bench import PEERS

    return PEERS


def _config(word: str) -> str | None:
    return word if Path(word).suffix == ".toml" else None


def _data(word: str) -> str | None:
    from ddpm_cli.config.resolve.data_choice import data_flags, is_array_file
    from ddpm_cli.errors import DataError

    if is_run(word):
        return None
    try:
        kind = data_flags(word)["data.kind"][0]
    except DataError:
        return None
    return word if kind in ("folder", "archive", "arrays", "slices") or is_array_file(word) else str(kind)


def _device(word: str) -> str | None:
    return word.lower() if re.fullmatch(r"(?i)cpu|mps|cuda(:\d{1,3})?", word) else None


def _size(word: str) -> str | None:
    return word if re.fullmatch(r"\d{1,5}x\d{1,5}", word) else None


def _setting(word: str) -> str | None:
    return word if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)*=.+", word) else None


def _picture(word: str) -> str | None:
    return word if Path(word).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".gif") else None


WORDS: dict[str, Callable[[str], str | None]] = {
    "--preset": _one_of(_presets),
    "--config": _config,
    "--set": _setting,
    "--kind": _one_of(_kinds("schedule")),
    "--sampler": _one_of(lambda: [*_kinds("sample.sampler")(), TUNED]),
    "--metrics": _one_of(_metrics),
    "--format": _one_of(_formats),
    "--against": _one_of(_peers),
    "--device": _device,
    "--size": _size,
    "--data": _data,
    "--out": _picture,
}
"""The option that a word is for: the value that it then has, or None if it is for another."""


def is_run(word: str) -> bool:
    """Tell whether a word names a run."""
    from ddpm_cli.errors import RunError
    from ddpm_cli.runs.directory import find_run

    try:
        find_run(Path("runs"), word)
    except RunError:
        return False
    return True


# ---------------------------------------------------------------------------------------------------- names of commands


def spelt_out(words: list[str]) -> list[str]:
    """Spell `help`, `version` and `list`, as other programs have them, in our words."""
    match words:
        case ["help", *command]:
            return [*spelt_out(command), "--help"]
        case ["version"]:
            return ["--version"]
        case ["list", *rest]:
            return ["ls", *rest]
    return words


class Group(TyperGroup):
    """Know commands by other spellings, and answer other names with theirs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before the subcommand."""
        return super().parse_args(ctx, spelt_out(args) if ctx.parent is None else args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Find the command of that name, whatever its case and dashes."""
        return super().get_command(ctx, as_known(cmd_name, self.commands))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that the first argument names."""
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing and not args[0].startswith("-"):
            ctx.fail(no_command(self.commands, args[0], of_all=ctx.parent is None))
        return super().resolve_command(ctx, args)


def no_command(commands: Collection[str], word: str, *, of_all: bool) -> str:
    """Say that a word is none of a group's commands; `of_all` if it is the group of all."""
    ours = next((name for name, others in OTHER_NAMES.items() if plain(word) in map(plain, others.split())), None)
    if of_all and plain(word) in NO_COMMANDS:
        return f"No such command {shown(word)}: {NO_COMMANDS[plain(word)]}."
    if of_all and ours:
        return f"No such command {shown(word)}. Did you mean '{ours}'?"
    if close := close_to(word, commands):
        return f"No such command {shown(word)}. Did you mean '{close}'?"
    return f"No such command {shown(word)}. There are: {', '.join(commands)}."
