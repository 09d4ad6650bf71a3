"""`--help` describes what can be chosen."""

from __future__ import annotations

import pytest
from command import Ddpm

from ddpm_cli.cli.app import app
from ddpm_cli.cli.config_commands import config_app
from ddpm_cli.cli.data_commands import data_app
from ddpm_cli.config.resolve.outline import choices, sections

PARTS = {"train": ("data", "schedule", "objective", "sample"), "sample": ("sample",), "inspect-schedule": ("schedule",)}


@pytest.mark.parametrize("command", PARTS)
def test_every_choice_is_described_with_its_source(command: str, ddpm: Ddpm) -> None:
    shown = " ".join(ddpm(command, "--help").stdout.split())
    paths = [path for path in choices() if path.startswith(PARTS[command])]
    assert paths
    for path in paths:
        assert f"--set {path}=..." in shown
        for kind, cls in sections()[path].items():
            # Without blanks, as the help may break a line after a hyphen.
            assert f"{kind}{cls.__doc__}".replace(" ", "") in shown.replace(" ", ""), (path, kind)


ROOM = 80 - 2 - 4
"""Characters of an example on a terminal of 80 columns: help leaves out the last two, and indents examples by four."""


def test_examples_can_be_pasted_from_a_terminal_of_80_columns() -> None:
    groups = [app, config_app, data_app]
    callbacks = [command.callback for group in groups for command in group.registered_commands]
    lines = [line.strip() for callback in callbacks for line in (callback.__doc__ or "").splitlines()]
    examples = [line for line in lines if line.startswith("ddpm ")]
    assert len(examples) > 40
    assert [line for line in examples if len(line) > ROOM] == []
