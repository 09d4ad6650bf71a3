"""`--help` describes what can be chosen."""

from __future__ import annotations

import pytest
from command import Ddpm

from ddpm_cli.config.outline import choices, sections

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
