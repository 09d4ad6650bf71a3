"""A run as the reference, drawn by several processes whose caches may lie on several machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from trained_models import trained_model

from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.core.compute.team import Team
from ddpm_cli.data.scale import USUAL
from ddpm_cli.errors import RequestError
from ddpm_cli.evaluation.given.drawn import given_reference
from ddpm_cli.evaluation.given.reference import GivenReference
from ddpm_cli.evaluation.settings import EvaluateSettings
from ddpm_cli.results.events import ignore
from ddpm_cli.runs.model_file import save_model_file

CPU = torch.device("cpu")


class Asked(Team):
    """One of two processes, which hears that the other has said this."""

    others: Iterator[bool]

    def largest(self, *numbers: float) -> list[float]:
        return [max(number, next(self.others)) for number in numbers]


def asked(rank: int, *others: bool) -> Team:
    team = Asked(rank, 1)
    object.__setattr__(team, "others", iter(others))
    return team


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    trained = trained_model(shape=(1, 4, 4))
    facts = {"config": to_toml(trained.config), "image_shape": [1, 4, 4], "step": 3, "class_names": []}
    save_model_file(tmp_path / "model.safetensors", trained.network.state_dict(), {"ddpm": json.dumps(facts)})
    return tmp_path / "model.safetensors"


def reference(model: Path, team: Team) -> GivenReference:
    return given_reference(model, EvaluateSettings(n=3), CPU, team, ignore, USUAL)


def test_who_has_them_waits_for_nobody_and_who_has_not_draws_none_alone(model: Path) -> None:
    with pytest.raises(RequestError, match="where others do not see them") as error:
        reference(model, asked(1, False, False))  # the main process had them in a cache of its own machine
    assert "DDPM_CACHE" in error.value.remedy
    assert not list((model.parent / "cache").rglob("drawn-*"))


def test_all_stop_where_one_does_not_see_them(model: Path) -> None:
    assert reference(model, Team()).images.count == 3  # type: ignore[union-attr]
    assert reference(model, asked(0, False, False)).images.count == 3  # type: ignore[union-attr]
    with pytest.raises(RequestError, match="in the cache of the main process's machine"):
        reference(model, asked(0, False, True))
