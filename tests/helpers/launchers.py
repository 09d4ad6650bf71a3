"""What the launchers of several processes make of their arguments, and what they hand on to `ddpm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from ddpm_cli.cli.app import app

MODULE = "ddpm_cli"


def handed_on(words: Sequence[str]) -> list[str]:
    """The arguments of `ddpm` in a line of torchrun, accelerate launch or sbatch; parsed as these do it.

    Raises:
        SystemExit: If the launcher does not know its own.
    """
    if words[0] == "sbatch":
        return ["train", *words[2:]]
    parser, own = (get_args_parser(), words[1:]) if words[0] == "torchrun" else (launch_command_parser(), words[2:])
    parsed = parser.parse_args(list(own))
    assert parsed.module
    assert parsed.training_script == MODULE
    return list(parsed.training_script_args)


def parse(arguments: Sequence[str]) -> dict[str, Any]:
    """What `ddpm ARGUMENTS` means to its command, without doing it.

    Raises:
        Exception: Typer's own, if there is no such command or option.
    """
    command: Any = typer.main.get_command(app)
    left = list(arguments)
    while hasattr(command, "commands"):
        command = command.commands[left.pop(0)]
    return dict(command.make_context(command.name, left).params)
