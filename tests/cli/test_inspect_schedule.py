from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ENVIRONMENT = {**os.environ, "NO_COLOR": "1"}


@pytest.fixture
def inspect(tmp_path: Path):
    def inspect(*arguments: str, columns: int = 80, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ddpm_cli", "inspect-schedule", *arguments]
        environment = {**ENVIRONMENT, "COLUMNS": str(columns), **environment}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return inspect


def expected(betas: np.ndarray) -> dict[str, np.ndarray]:
    """The tables by their definitions."""
    alphas_cumprod = np.cumprod(1 - betas)
    before = np.concatenate([[1.0], alphas_cumprod[:-1]])
    return {
        "betas": betas,
        "alphas_cumprod": alphas_cumprod,
        "snr": alphas_cumprod / (1 - alphas_cumprod),
        "posterior_variance": betas * (1 - before) / (1 - alphas_cumprod),
    }


def assert_tables(answer: dict, betas: np.ndarray) -> None:
    for name, table in expected(betas).items():
        np.testing.assert_allclose(answer[name], table, rtol=1e-12, atol=0)


def cosine_betas(timesteps: int, s: float) -> np.ndarray:
    f = [np.cos((t / timesteps + s) / (1 + s) * np.pi / 2) ** 2 for t in range(timesteps + 1)]
    return np.array([min(1 - f[t + 1] / f[t], 0.999) for t in range(timesteps)])


def test_json_of_linear_is_the_papers_schedule(inspect):
    done = inspect("--kind", "linear", "--json")
    answer = json.loads(done.stdout)
    assert list(answer) == ["kind", "timesteps", "betas", "alphas_cumprod", "snr", "posterior_variance"]
    assert (answer["kind"], answer["timesteps"]) == ("linear", 1000)
    assert_tables(answer, np.linspace(1e-4, 0.02, 1000))


def test_json_takes_timesteps_and_settings_with_or_without_their_section(inspect):
    for setting in ("s=0.02", "schedule.s=0.02"):
        answer = json.loads(inspect("--kind", "cosine", "--timesteps", "300", "--set", setting, "--json").stdout)
        assert answer["timesteps"] == 300
        assert_tables(answer, cosine_betas(300, 0.02))


def test_json_of_a_comparison_is_a_list_in_which_each_takes_what_it_has(inspect):
    done = inspect("--compare", "cosine,linear", "--set", "beta_end=0.03", "--set", "s=0.01", "--json")
    cosine, linear = json.loads(done.stdout)["schedules"]
    assert (cosine["kind"], linear["kind"]) == ("cosine", "linear")
    assert_tables(cosine, cosine_betas(1000, 0.01))
    assert_tables(linear, np.linspace(1e-4, 0.03, 1000))


def test_fewer_steps_than_the_samplers_take_are_fine_here(inspect):
    assert json.loads(inspect("--timesteps", "10", "--json").stdout)["timesteps"] == 10
    assert len(json.loads(inspect("--timesteps", "1", "--json").stdout)["betas"]) == 1


def test_another_kind_keeps_the_timesteps_of_the_file(inspect, tmp_path):
    (tmp_path / "recipe.toml").write_text("[schedule]\ntimesteps = 40\nbeta_end = 0.03\n")
    answer = json.loads(inspect("--config", "recipe.toml", "--compare", "linear,cosine", "--json").stdout)
    assert [schedule["timesteps"] for schedule in answer["schedules"]] == [40, 40]
    assert_tables(answer["schedules"][0], np.linspace(1e-4, 0.03, 40) * 25)
    assert json.loads(inspect("--config", "recipe.toml", "--kind", "cosine", "--json").stdout)["timesteps"] == 40


def test_preset_names_the_schedule(inspect):
    assert json.loads(inspect("--preset", "quick", "--json").stdout)["kind"] == "cosine"


def test_csv_has_a_row_for_each_step_with_every_digit(inspect):
    rows = list(csv.DictReader(io.StringIO(inspect("--compare", "linear,cosine", "--csv").stdout)))
    assert [row["kind"] for row in rows] == ["linear"] * 1000 + ["cosine"] * 1000
    assert [int(row["t"]) for row in rows[1000:]] == list(range(1000))
    assert [float(row["beta"]) for row in rows[:1000]] == np.linspace(1e-4, 0.02, 1000).tolist()
    np.testing.assert_allclose(
        [float(row["alpha_bar"]) for row in rows[1000:]], np.cumprod(1 - cosine_betas(1000, 0.008)), rtol=1e-12
    )


def test_table_shows_the_chosen_number_of_steps_from_first_to_last(inspect):
    lines = inspect("--kind", "linear", "--rows", "5").stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if "───" in line) + 1
    rows = [line.split() for line in lines[start : start + 5]]
    assert [row[0] for row in rows] == ["0", "250", "500", "749", "999"]
    assert rows[0] == ["0", "0.0001", "0.9999", "40.00", "0"]
    assert rows[-1] == ["999", "0.02", "4.0358e-05", "-43.94", "0.02"]


@pytest.mark.parametrize("kind", ["flow", "trig-flow"])
def test_a_path_of_one_step_has_no_level_but_noise(inspect, kind):
    assert "-inf" in inspect("--kind", kind, "--timesteps", "1").stdout


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("kinds", ["linear,cosine", "linear,quadratic,cosine,sigmoid"])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(inspect, columns, kinds):
    text = inspect("--compare", kinds, columns=columns).stdout
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    assert text.count("SNR dB over t") == text.count("alpha_bar over t") == 1
    for mark, kind in zip("abcd", kinds.split(","), strict=False):
        assert f"{mark} {kind}" in text.splitlines()[-1]


def test_a_path_shows_its_scales_instead_of_betas(inspect):
    answer = json.loads(inspect("--kind", "flow", "--set", "shift=3", "-T", "4", "--json").stdout)
    assert list(answer) == ["kind", "timesteps", "alpha", "sigma", "snr"]
    np.testing.assert_allclose(answer["sigma"], [0.5, 0.75, 0.9, 1.0])
    np.testing.assert_allclose(answer["alpha"], [0.5, 0.25, 0.1, 0.0], atol=1e-15)
    rows = list(csv.DictReader(io.StringIO(inspect("--compare", "cosine,trig-flow", "-T", "3", "--csv").stdout)))
    assert list(rows[0]) == ["kind", "t", "alpha", "sigma", "snr"]
    assert [row["t"] for row in rows[:4]] == ["0", "1", "2", "0.333333"]
    np.testing.assert_allclose([float(row["sigma"]) for row in rows[3:]], np.sin(np.pi / 6 * np.arange(1, 4)))


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("asked", [("--kind", "flow"), ("--compare", "cosine,flow,trig-flow")], ids=["alone", "compared"])
def test_a_path_fits_the_terminal(inspect, columns, asked):
    text = inspect(*asked, columns=columns).stdout
    assert max(map(len, text.splitlines())) <= columns
    assert "…" not in text
    assert text.count("alpha over t") == text.count("SNR dB over t") == 1


def test_curve_falls_from_the_top_left_to_the_bottom_right(inspect):
    lines = inspect("--kind", "linear").stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if "alpha_bar over t" in line) + 1
    curve = [line[8:] for line in lines[start : start + 10]]
    first_dots = [len(row) - len(row.lstrip()) for row in curve]
    assert first_dots == sorted(first_dots)
    assert (first_dots[0], len(curve[-1])) == (0, 70)


def test_a_terminal_that_is_not_utf8_gets_the_table_alone(inspect):
    done = inspect("--kind", "linear", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "4.0358e-05" in done.stdout
    assert done.stdout.isascii()


def test_warnings_go_to_stderr(inspect):
    linear = inspect("--kind", "linear", "--json").stderr
    assert "Terminal SNR is not zero" in linear
    assert "clipped" not in linear
    assert "1 of 1000 betas clipped at 0.999" in inspect("--kind", "cosine").stderr
    assert "betas clipped at 0.5" in inspect("--kind", "cosine", "--set", "max_beta=0.5").stderr


def test_plot_is_a_picture_and_replaces_the_old_file_alone(inspect, tmp_path):
    (tmp_path / "plot.png").write_text("old")
    done = inspect("--compare", "linear,cosine", "--out", "plot.png")
    assert done.returncode == 0
    assert "Plot written to plot.png" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    with Image.open(tmp_path / "plot.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(1_000_000)) > 10


def test_on_a_picture_the_forward_process_is_drawn_and_the_json_stays_the_same(inspect, tmp_path):
    Image.new("RGB", (60, 40), (250, 100, 0)).save(tmp_path / "photo.jpg")
    done = inspect("--compare", "linear,cosine", "--on", "photo.jpg", "--json")
    assert done.returncode == 0
    assert [schedule["kind"] for schedule in json.loads(done.stdout)["schedules"]] == ["linear", "cosine"]
    assert "The forward process on photo.jpg is drawn in forward.png." in done.stderr
    inspect("--on", "photo.jpg", "--out", "strip.webp")
    with Image.open(tmp_path / "forward.png") as two, Image.open(tmp_path / "strip.webp") as one:
        assert (two.format, one.format) == ("PNG", "WEBP")
        assert two.height > one.height


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--kind", "cosin"], 'unknown schedule "cosin"; the nearest is "cosine"'),
        (["--compare", "linear,cosin"], 'unknown schedule "cosin"'),
        (["--compare", ""], 'unknown schedule ""'),
        (["--kind", "linear", "--compare", "linear,cosine"], "--kind and --compare exclude each other"),
        (["--json", "--csv"], "--json and --csv exclude each other"),
        (["--timesteps", "0"], "schedule.timesteps: must be at least 1, not 0 (--timesteps)"),
        (["--timesteps", "1000000000"], "schedule.timesteps: must be at most 100000"),
        (["--timesteps", "5", "--set", "timesteps=6"], "schedule.timesteps: is set twice: 5 and 6"),
        (["--set", "beta_ned=0.1"], 'schedule.beta_ned: unknown key; the nearest is "beta_end"'),
        (["--kind", "linear", "--set", "s=0.1"], 'schedule.s: the kind "linear" has no such key; "cosine" has it'),
        (["--compare", "linear,quadratic", "--set", "s=0.1"], 'schedule.s: the kind "linear" has no such key'),
        (["--set", "beta_end=1.5"], "schedule.beta_end: must be less than 1, not 1.5"),
        (["--set", "beta_start=0.5"], "beta_start (0.5) must not exceed beta_end (0.02)"),
        (["--set", "beta_end=0.99"], "No signal is left"),
        (["--kind", "table"], 'A schedule of kind "table" needs a table'),
        (["--set", "zero_terminal_snr=true", "--timesteps", "1"], "needs at least 2 timesteps"),
        (["--set", "logsnr_shift=1000"], "schedule.logsnr_shift: must be at most 20"),
        (["--kind", "learned", "--set", "gamma_max=-9"], "must be at least 1 more than twice endpoint_range"),
        (["--kind", "learned", "--set", "zero_terminal_snr=true"], "raise gamma_max instead"),
        (["--kind", "learned", "--timesteps", "1"], "schedule.timesteps: must be at least 2"),
        (["absent-run"], "absent-run"),
        (["absent-run", "--kind", "linear"], "--kind does not go with a run"),
        (["absent-run", "--set", "s=0.1"], "--set does not go with a run"),
        (["--out", "absent/plot.png"], "absent/plot.png: its folder does not exist"),
        (["--out", "."], "it is a folder"),
        (["--out", "plot.xyz"], '".xyz" names no picture format'),
        (["--out", "plot"], "names no picture format"),
        (["--on", "absent.jpg"], "absent.jpg cannot be read"),
        (["--on", "."], "cannot be read (Is a directory)"),
        (["--on", "absent.jpg", "--out", "strip.pdx"], ".pdx is no picture format"),
        (["--on", "absent.jpg", "--out", "absent/strip.png"], "its folder does not exist"),
        (["--config", "absent.toml"], "absent.toml: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_bad_request_is_refused_and_touches_no_file(inspect, tmp_path, arguments, reason):
    done = inspect(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
