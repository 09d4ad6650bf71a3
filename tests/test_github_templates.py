"""The issue forms are valid, and ask for what an answer needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FORMS = Path(__file__).parents[1] / ".github" / "ISSUE_TEMPLATE"


def form(name: str) -> dict[str, Any]:
    return yaml.safe_load((FORMS / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["bug.yml", "feature.yml"])
def test_a_form_has_what_github_demands(name: str) -> None:
    content = form(name)
    assert {"name", "description", "body"} <= content.keys()
    identities = [field["id"] for field in content["body"]]
    assert len(set(identities)) == len(identities)
    for field in content["body"]:
        assert field["type"] in ("textarea", "input")
        assert field["attributes"]["label"]


def test_a_report_asks_for_doctor_command_and_config() -> None:
    fields = {field["id"]: field for field in form("bug.yml")["body"]}
    assert "ddpm doctor --json" in fields["doctor"]["attributes"]["label"]
    assert "ddpm config show" in fields["config"]["attributes"]["description"]
    for name in ("what", "command", "doctor"):
        assert fields[name]["validations"]["required"]
