"""The issue forms are valid and ask for what an answer needs; release notes have a place for every labelled change."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from repository import ROOT

GITHUB = ROOT / ".github"
FORMS = GITHUB / "ISSUE_TEMPLATE"


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


def test_release_notes_have_a_place_for_what_the_forms_label_and_for_all_else() -> None:
    notes = yaml.safe_load((GITHUB / "release.yml").read_text(encoding="utf-8"))["changelog"]
    of_categories = [label for category in notes["categories"] for label in category["labels"]]
    assert len(set(of_categories)) == len(of_categories)
    assert {label for name in ("bug.yml", "feature.yml") for label in form(name)["labels"]} <= set(of_categories)
    assert of_categories[-1] == "*"
    assert not set(notes["exclude"]["labels"]) & set(of_categories)


def test_a_wheel_is_installed_and_started_on_windows_and_macos() -> None:
    workflow = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["wheel"]
    assert job["strategy"]["matrix"]["os"] == ["windows-latest", "macos-latest"]
    assert job["runs-on"] == "${{ matrix.os }}"
    scripts = [step.get("run", "") for step in job["steps"]]
    built, installed, started = (
        next(i for i, s in enumerate(scripts) if part in s) for part in ("pip wheel", "install dist", "ddpm")
    )
    assert built < installed < started
    assert job["steps"][started]["working-directory"] != "."  # where the source would be imported and not the wheel
    for command in ("ddpm --help", "ddpm inspect-schedule", "ddpm train --preset quick --data fashion-mnist-10k --steps 2"):
        assert command in scripts[started].splitlines()
