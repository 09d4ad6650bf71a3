"""Tables of betas or alpha_bar, as people write them and as they go wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddpm_cli.build.schedule import build_schedule
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.resolve.toml_text import to_toml
from ddpm_cli.config.schema.schedule import TableSchedule
from ddpm_cli.core.io.beta_table import read_schedule_table
from ddpm_cli.errors import ScheduleError

BETAS = (np.linspace(1e-4, 0.018, 20) * 50).tolist()
ABAR = np.cumprod(1 - np.array(BETAS)).tolist()


def csv_of(name: str, values: list[Any]) -> str:
    return "\n".join([f"t,{name}", *(f"{t},{value}" for t, value in enumerate(values))])


def written(folder: Path, text: str) -> Path:
    (folder / "table").write_text(text)
    return folder / "table"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (csv_of("beta", BETAS), None),
        (csv_of(" Alpha_Bar ", ABAR), None),
        (csv_of("alphas_cumprod", ABAR) + "\n\n", None),
        ("\n".join(map(str, ABAR)), "alpha_bar"),
        (json.dumps({"betas": BETAS}), None),
        (json.dumps({"alpha_bar": ABAR, "kind": "mine"}), None),
        (json.dumps(BETAS), "betas"),
        (json.dumps({"betas": [0.1], "alpha_bar": ABAR}), "alpha_bar"),
    ],
)
def test_betas_are_read_from_csv_and_json(tmp_path: Path, text: str, values: str | None) -> None:
    np.testing.assert_allclose(read_schedule_table(written(tmp_path, text), values), BETAS, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (json.dumps({"alpha_bar": [0.5, *ABAR[:-1]]}), "table: alpha_bar must fall .* from 0.5"),
        (json.dumps({"alpha_bar": [0.5, 0.0, *ABAR[2:]]}), "0 at the last step alone, but is 0.0 at t = 1"),
        (json.dumps({"alpha_bar": [1.0, *ABAR[:-1]]}), "is 1.0 at t = 0.* is left out"),
        (json.dumps({"betas": [*BETAS[:3], float("nan"), *BETAS[4:]]}), "nan at t = 3"),
        (json.dumps({"betas": [*BETAS[:3], None, *BETAS[4:]]}), "None at t = 3"),
        (json.dumps({"betas": [*BETAS[:3], True, *BETAS[4:]]}), "True at t = 3"),
        (json.dumps({"betas": [*BETAS[:3], [0.1] * 99, *BETAS[4:]]}), "no number at t = 3"),
        ('{"betas": [1' + "0" * 400 + "]}", "no number at t = 0"),
        ('{"betas": [1' + "0" * 9000 + "]}", "is not valid JSON"),
        (csv_of("beta", [*BETAS[:3], "x" * 200_000]), "is no CSV file"),
        (csv_of("gamma", BETAS), "table has no column named beta or betas or alpha_bar"),
        (csv_of("beta", []), "holds no betas and no alpha_bar"),
        (json.dumps({"gamma": BETAS}), "table holds no betas and no alpha_bar"),
        (json.dumps({"betas": 0.1}), "table holds no betas and no alpha_bar"),
        (json.dumps(BETAS), "does not say whether its values are betas or alpha_bar"),
        ("\n".join(map(str, BETAS)), "does not say whether its values are betas or alpha_bar"),
        (csv_of("beta", BETAS) + "\n20", "1 cells in row 22, but 2 in the first"),
        ("", "is empty"),
        ("{", "is not valid JSON"),
        ("[" * 5_000_000, "is nested too deeply"),
    ],
    ids=range(20),
)
def test_what_holds_no_schedule_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words):
        read_schedule_table(written(tmp_path, text))


def test_what_is_no_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(bytes(range(256)))
    for path, words in ((tmp_path / "absent", "is missing"), (tmp_path, "not an ordinary file"), (tmp_path / "picture", "UTF-8")):
        with pytest.raises(ScheduleError, match=words):
            read_schedule_table(path)


def test_betas_outside_of_their_range_and_a_wrong_count_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, csv_of("beta", [*BETAS[:3], 1.5, *BETAS[4:]]))
    with pytest.raises(ScheduleError, match=r"Betas must be in \(0, 1\].*1.5 at t = 3"):
        build_schedule(TableSchedule(path=path, timesteps=20))
    with pytest.raises(ScheduleError, match=r"has 20 values, but schedule\.timesteps is 1,000"):
        build_schedule(TableSchedule(path=path))
    with pytest.raises(ScheduleError, match=r"schedule\.betas has 20 values, but schedule\.timesteps is 30"):
        build_schedule(TableSchedule(betas=tuple(BETAS), timesteps=30))
    with pytest.raises(ScheduleError, match="needs a table"):
        build_schedule(TableSchedule())


def test_a_config_takes_its_betas_in_and_forgets_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, csv_of("beta", BETAS))
    kept = TableSchedule(path=path, timesteps=20, logsnr_shift=-1.0).self_contained()
    path.unlink()
    assert (kept.path, kept.betas, kept.logsnr_shift) == (None, tuple(BETAS), -1.0)
    assert kept.self_contained() == kept
    assert build_schedule(kept).timesteps == 20


def test_a_table_of_another_length_is_refused_before_its_values_are_looked_at(tmp_path: Path) -> None:
    column = ["no number"] * 100_000
    for name, text in (("x.csv", "\n".join(["beta", *column])), ("x.json", json.dumps({"alpha_bar": column}))):
        (tmp_path / name).write_text(text)
        with pytest.raises(ScheduleError, match=r"has 100,000 values, but schedule\.timesteps is 1,000") as refused:
            read_schedule_table(tmp_path / name, None, 1000)
        assert "schedule.timesteps = 100000" in refused.value.remedy
        with pytest.raises(ScheduleError, match="no number"):
            read_schedule_table(tmp_path / name, None, 100_000)


def test_the_config_of_a_run_with_the_longest_table_can_be_used_again(tmp_path: Path) -> None:
    betas = tuple(np.linspace(1e-6, 2e-4, 100_000).tolist())
    schedule = TableSchedule(timesteps=len(betas), betas=betas)
    (tmp_path / "config.toml").write_text(to_toml(load_config().config.model_copy(update={"schedule": schedule})))
    assert (tmp_path / "config.toml").stat().st_size > 2_000_000
    assert load_config(file=tmp_path / "config.toml").config.schedule == schedule
