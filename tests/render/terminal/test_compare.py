"""The pictures and texts of a comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.render.pictures.compare_plot import look, save_curves, save_metrics
from ddpm_cli.render.pictures.images import save_named_rows
from ddpm_cli.render.terminal.compare import comparison_json, to_markdown
from ddpm_cli.render.terminal.compare_tables import lead, sheets
from ddpm_cli.render.terminal.format import setting
from ddpm_cli.results.comparison import Apart, Arm, ArmFigures, Comparison, Curve, Measure, Run, Verdict


def run(name: str, seed: int, curve: Curve | None) -> Run:
    curves = {} if curve is None else {"loss": curve, "held_out_loss": curve, "fcd": curve}
    return Run(Path("runs") / name, name, seed, "cpu", 100, 1000, 10.0, 100.0, 1234, True, True, curves)


def falling(end: float, points: int = 30) -> Curve:
    places = tuple(float(at) for at in range(1, points + 1))
    return Curve(tuple(64 * at for at in places), places, tuple(end + 1 / at for at in places))


def comparison(
    arms: int = 12, seeds: int = 2, steps: tuple[int, ...] = (5, 10), samplers: tuple[str, ...] = ("ddim", "unipc")
) -> Comparison:
    named = tuple(
        Arm(f"arm-{number}", tuple(run(f"arm-{number}-s{seed}", seed, falling(0.1 + number / 50)) for seed in range(seeds)))
        for number in range(arms)
    )
    verdict = Verdict("different", "lower by 12 % (better), p = 0.003", -0.12, 0.003)
    measures = tuple(
        Measure(
            "fcd",
            {"n": 2000, "sampler": sampler, "steps": count},
            tuple(ArmFigures(arm.name, {r.name: 20.0 + r.seed + count for r in arm.runs}) for arm in named),
            (Verdict("baseline", "the baseline"), *[verdict] * (arms - 1)) if arms > 1 else (),
        )
        for sampler in samplers
        for count in steps
    )
    differing = {"optimizer.lr": tuple(10.0**-number for number in range(arms))} if arms > 1 else {}
    return Comparison(named, "arm-0", differing, measures, (), {"arm-1-s1": "no finite gradients"}, ("A note.",))


def test_twelve_arms_have_twelve_looks() -> None:
    assert len({str(look(place)) for place in range(12)}) == 12


def test_curves_are_drawn_for_all_arms_and_names(tmp_path: Path) -> None:
    save_curves(comparison(), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        width, height = picture.size
        colours = {colour for _, colour in picture.convert("RGB").getcolors(maxcolors=2**24) or []}
    assert (width, height > 3 * 300) == (1440, True)
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)} <= colours


def test_runs_without_curves_or_of_one_point_are_drawn_too(tmp_path: Path) -> None:
    bare = Comparison((Arm("a", (run("a", 0, None),)), Arm("b", (run("b", 0, falling(0.1, 1)),))), "a", {}, (), (), {}, ())
    save_curves(bare, tmp_path / "one.png")
    save_curves(Comparison(bare.arms[:1], "a", {}, (), (), {}, ()), tmp_path / "none.png")
    assert (tmp_path / "one.png").stat().st_size > 0
    assert not save_metrics(bare, tmp_path / "metrics.png")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["none.png", "one.png"]


@pytest.mark.parametrize("samplers", [("ddim",), ("ddim", "unipc")])
@pytest.mark.parametrize(("arms", "steps"), [(3, (5, 10)), (1, (5, 10)), (3, (5,))])
def test_metrics_are_drawn_over_steps_or_arm_beside_arm(
    tmp_path: Path, arms: int, steps: tuple[int, ...], samplers: tuple[str, ...]
) -> None:
    assert save_metrics(comparison(arms, steps=steps, samplers=samplers), tmp_path / "metrics.png")
    with Image.open(tmp_path / "metrics.png") as picture:
        assert picture.size == (720, 552)


def test_what_varies_becomes_columns_and_the_rest_stands_below() -> None:
    sheet = sheets(comparison(2))[-1]
    assert sheet.columns == ("sampler", "steps", "arm", " mean", " seeds", "against arm-0")
    assert sheet.rows[1] == ("ddim", "5", "arm-1", "25.5 +- 0.71", "2", "lower by 12 % (better), p = 0.003")
    assert sheet.remark == "n 2000"


def test_the_longer_side_of_the_differences_is_down() -> None:
    few = sheets(comparison(2))[0]
    assert few.columns == ("arm", "optimizer.lr", "train.seed")
    assert few.rows == (("arm-0", "1", "0, 1"), ("arm-1", "0.1", "0, 1"))
    many = comparison(2)
    many = Comparison(many.arms, "arm-0", {f"key.{n}": (n, None) for n in range(3)}, (), (), {}, ())
    assert sheets(many)[0].columns == ("key", "arm-0", "arm-1")
    assert sheets(many)[0].rows[1:] == (("key.0", "0", "-"), ("key.1", "1", "-"), ("key.2", "2", "-"))


def test_a_figure_apart_says_how_it_differs() -> None:
    found = replace(comparison(2), apart=(Apart("arm-0-s0", "fcd", 31.0, {"n": 500, "sampler": "ddim", "steps": 5}),))
    assert sheets(found)[-1].rows == (("arm-0-s0", "fcd", "31", "n 500, sampler ddim, steps 5"),)
    alone = replace(found, measures=found.measures[:1])
    assert sheets(alone)[-1].rows[0][-1] == "n 500"


def test_metrics_that_were_logged_in_training_stand_beside_the_losses() -> None:
    curve = Curve((8.0, 16.0, 24.0), (1.0, 2.0, 3.0), (9.0, 5.0, 7.0))
    found = replace(comparison(1), arms=(Arm("a", (run("a-s0", 0, curve), run("a-s1", 1, None))),))
    table = next(sheet for sheet in sheets(found) if sheet.title == "losses and metrics of the runs")
    assert table.columns == ("run", " training", " best", " held-out", " best", " fcd", " best")
    assert [row[-2:] for row in table.rows] == [("7", "5"), ("-", "-")]


def test_one_arm_says_that_only_the_seed_differs() -> None:
    one = comparison(1)
    assert lead(one) == [
        "The 2 runs differ only in train.seed: not different; their spread is the noise of this experiment (standard deviation: "
        "fcd 0.71).",
        "A note.",
    ]
    assert [sheet.title for sheet in sheets(one)] == ["runs", "losses and metrics of the runs", "fcd"]


def test_markdown_is_whole_and_harmless() -> None:
    text = to_markdown(comparison(2), "Sweep <b>|x", {"curves": "curves.png"})
    assert text.startswith("# Sweep \\<b>\\|x\n\n4 runs in 2 arms.\n")
    assert "![curves](curves.png)" in text
    assert "| arm-1-s1, failed | 100 |" not in text  # it has finished
    assert "| sampler | steps | arm | mean | seeds | against arm-0 |\n| --- | --- | --- | ---: | ---: | --- |\n" in text


def test_json_says_what_failed() -> None:
    found = comparison_json(comparison(2))
    assert [entry["failure"] for entry in found["runs"]] == [None, None, None, "no finite gradients"]
    assert found["measures"][0]["arms"][1]["verdict"] == {
        "kind": "different",
        "text": "lower by 12 % (better), p = 0.003",
        "change": -0.12,
        "p": 0.003,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "true"),
        (0.001, "0.001"),
        (20.0, "20"),
        (0.12345678, "0.12345678"),
        ([1, 2], "[1, 2]"),
        ([0.1] * 1000, "1,000 values"),
        ("a" * 64, "a" * 12),
    ],
)
def test_settings_as_people_read_them(value: object, text: str) -> None:
    assert setting(value) == text


def test_rows_of_images_of_different_shapes(tmp_path: Path) -> None:
    rows = [("grey", np.full((3, 1, 28, 28), 255, np.uint8)), ("a longer name", np.full((2, 3, 64, 48), 128, np.uint8))]
    save_named_rows(tmp_path / "rows.png", rows)
    with Image.open(tmp_path / "rows.png") as picture:
        assert picture.mode == "RGB"
        assert picture.height == 2 * (28 + 4) + 64 + 4
        assert picture.getpixel((picture.width - 20, 30)) == (255, 255, 255)
