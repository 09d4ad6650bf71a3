"""What `info` tells of where a run comes from."""

from __future__ import annotations

import shlex

from ddpm_cli.render.terminal.overview import provenance_facts


def test_the_command_of_a_run_is_whole_and_can_be_pasted() -> None:
    command = ["ddpm", "train", *(f"--set=train.number_{number}=[1, 2]" for number in range(20))]
    shown = str(provenance_facts({"command": command})["command"])
    assert shlex.split(shown) == command


def test_precision_is_named_as_by_train() -> None:
    assert provenance_facts({"precision": "no"})["precision"] == "fp32"
    assert provenance_facts({"precision": "bf16"})["precision"] == "bf16"
