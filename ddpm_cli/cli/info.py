"""Run `ddpm info`. Imports no torch, unless it is asked about an exported file."""

from __future__ import annotations

from ddpm_cli.cli.parsing.options import JsonOption, RunArgument


def info(run: RunArgument = None, json: JsonOption = False) -> None:
    """Tell all about a run, a checkpoint or an exported file.

    The command tells what it was trained with and on, on which machine, with which versions, and how far it came. It tells which
    checkpoints are sound: all their files are compared with their SHA-256 sums. It also tells what was measured.

    The exit status is 1 if something is damaged.

    For example:

      ddpm info

      ddpm info runs/quick-001 --json

      ddpm info model.safetensors
    """
    from ddpm_cli.errors import DdpmError
    from ddpm_cli.experiments.run_info import model_info
    from ddpm_cli.render.terminal.console import print_json
    from ddpm_cli.render.terminal.overview import info_json, show_info

    found = model_info(run)
    if json:
        print_json(info_json(found))
    else:
        show_info(found)
    if found.faults:
        raise DdpmError(
            f"{found.path} cannot be used as it is here: see its faults.",
            "Restore what is damaged, install what is missing, or use another run.",
        )
