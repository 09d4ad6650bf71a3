"""Own pictures through the command: checked, trained on, refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shlex
import shutil
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import TINY, Ddpm
from picture_files import broken_files, mixed_picture, write_folder, write_picture
from PIL import Image

from ddpm_cli.cli.app import run

SMALL = [argument for argument in TINY if not argument.startswith("--data=")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and a cache beside it."""
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON of `ddpm data check`, run in this process."""
    capsys.readouterr()
    assert run(["data", "check", *arguments, "--json"], debug=False) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one message of a command that is refused, run in this process; nothing was written where it ran."""
    before = sorted(Path.cwd().rglob("*"))
    assert run(list(arguments), debug=False) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.count("error:") == 1
    assert "Traceback" not in error
    assert sorted(Path.cwd().rglob("*")) == before
    return " ".join(error.split())


# ------------------------------------------------------------------------------------------------------------ the check


def test_check_says_what_is_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics", 20, ("cat", "dog"), (20, 30, 3))
    write_picture(here / "pics" / "cat" / "big.png", 50, (60, 40, 3))
    (here / "pics" / "cat" / "copy.png").write_bytes((here / "pics" / "cat" / "000.png").read_bytes())
    with Image.open(here / "pics" / "dog" / "001.png") as image:
        image.save(here / "pics" / "dog" / "same.bmp")
    (here / "pics" / "dog" / "bad.jpg").write_bytes(b"")
    (here / "pics" / "dog" / "notes.txt").write_bytes(b"")
    write_picture(here / "pics" / "loose.png", 60)
    report = check(capsys, "pics", "--size", "16x24", "--out", "preview.png")
    assert (report["pictures"], report["readable"], report["ignored_files"]) == (24, 23, 1)
    assert report["unreadable"] == {"dog/bad.jpg": "is empty"}
    assert report["sizes"] == {
        "different": 2,
        "smallest": [20, 30],
        "largest": [60, 40],
        "most_frequent": [[[20, 30], 22], [[60, 40], 1]],
    }
    assert report["modes"] == {"RGB": 23}
    assert report["formats"] == {"PNG": 22, "BMP": 1}
    assert report["classes"] == {"cat": 12, "dog": 11}
    assert report["duplicates"] == [["cat/000.png", "cat/copy.png"]]
    assert report["same_pixels"] == [["dog/001.png", "dog/same.bmp"]]
    assert "loose.png" in report["notices"][0]
    training = report["training"]
    assert training["refused"] is None
    assert training["shape"] == [3, 16, 24]
    (notice,) = training["notices"]
    assert "Left out 1 picture with the same pixels" in notice  # same.bmp is held out, and 001.png is not
    assert training["train_images"] + training["held_out_images"] == 22
    with Image.open("preview.png") as image:
        columns = min(6, int(np.ceil(training["train_images"] ** 0.5)))
        assert image.width == columns * 26 + 2


def test_pixels_on_both_sides_are_counted_after_a_limit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics" / "train", 6)
    write_folder(here / "pics" / "test", 6)
    training = check(capsys, "pics", "--set=data.limit=2")["training"]
    assert training["train_images"] == 2
    assert "2 held-out images have the same pixels" in training["notices"][0]
    assert train("--data=pics", "--set=data.limit=2") == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "2 held-out images have the same pixels" in shown
    assert "2 training images chosen by a sum of their content" in shown


def test_long_paths_are_shortened_in_the_table_and_whole_in_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    deep = Path("pics", *["d" * 50] * 20)
    write_folder(deep, 4)
    (deep / "bad.png").write_bytes(b"")
    assert run(["data", "check", "pics"], debug=False) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 200
    assert list(check(capsys, "pics")["unreadable"]) == [str(deep.relative_to("pics") / "bad.png")]


def test_splits_are_said_by_the_check_the_start_table_and_the_record(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics" / "set" / "train", 12, ("cat", "dog"))
    write_folder(here / "pics" / "set" / "val", 4, ("cat", "dog"), (8, 8, 3))
    write_folder(here / "pics" / "set" / "test", 6)
    text = "set/train/ to train on, set/val/ held out"
    report = check(capsys, "pics")
    assert report["layout"] == text
    assert report["classes"] == {"cat": 8, "dog": 8}
    assert (report["training"]["train_images"], report["training"]["held_out_images"]) == (12, 4)
    assert train("--data=pics", "--set=model.num_classes=auto") == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "12 images, 8x8, 3 channels, 4 held out" in shown
    assert text in shown
    assert "set/test/ (6 pictures; set/val/ is held out)" in shown
    data = json.loads(Path("runs/a/run.json").read_text())["data"]
    assert text in data["source"]
    assert (data["train_images"], data["test_images"], data["classes"]) == (12, 4, ["cat", "dog"])


def test_a_run_of_an_earlier_version_goes_on_with_its_own_pictures(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val", "test"):
        write_folder(here / "pics" / split, 6)
    assert train("--data=pics", "--set=data.splits=old", "--set=model.num_classes=auto") == 0
    assert json.loads(Path("runs/a/run.json").read_text())["data"]["classes"] == ["test", "train", "val"]
    config = Path("runs/a/config.toml")
    config.write_text(config.read_text().replace('splits = "old"\n', "").replace("follow_links = false\n", ""))
    shutil.rmtree("runs/a/checkpoints")
    assert run(["resume", "--steps=2"], debug=False) == 0, capsys.readouterr().err
    assert 'splits = "old"' in config.read_text()


def test_the_check_takes_whatever_training_takes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundled = check(capsys, "fashion-mnist-10k", "--set=data.limit=30", "--out=preview.png")
    assert bundled["training"]["train_images"] == 30
    assert bundled["training"]["held_out_images"] == 2000
    assert bundled["classes"]["Bag"] == 203
    assert Path("preview.png").exists()
    np.savez("mine.npz", images=np.random.default_rng(0).integers(0, 256, (20, 6, 10), np.uint8), labels=np.arange(20) % 2)
    assert check(capsys, "mine.npz")["training"]["shape"] == [1, 6, 10]
    write_folder(here / "fashion-mnist-10k", 20, ("only",))
    assert run(["data", "check", "fashion-mnist-10k"], debug=False) == 0
    out, error = capsys.readouterr()
    assert "12,000, of which" in out
    assert "same pixels" not in out
    assert "./fashion-mnist-10k is what lies here" in " ".join(error.split())
    folder = check(capsys, "./fashion-mnist-10k", "--set=data.limit=3")
    assert (folder["pictures"], folder["classes"], folder["training"]["train_images"]) == (20, {}, 3)


def test_the_start_table_counts_what_is_held_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics", 40)
    held_out = check(capsys, "pics", "--set=data.held_out=0.5")["training"]["held_out_images"]
    assert held_out > 4
    assert train("--data=pics", "--set=data.held_out=0.5", "--set=train.eval_images=4", "--dry-run") == 0
    assert f"{held_out} held out (loss of 4)" in " ".join(capsys.readouterr().err.split())


def test_one_outlier_does_not_set_the_size(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics", 12, shape=(64, 64, 3))
    write_picture(here / "pics" / "strip.png", 99, (1, 500, 3))
    remedy = check(capsys, "pics")["training"]["remedy"]
    assert "--size 64 with --set data.small=skip, which leaves out 1 picture" in remedy
    assert check(capsys, "pics", "--size=64", "--set=data.small=skip")["training"]["skipped_small"] == 1
    remedy = check(capsys, "pics", "--size=64")["training"]["remedy"]
    assert remedy == "Leave them out with --set data.small=skip, or enlarge them with --set data.small=enlarge."


def test_what_the_check_foretells_comes_true(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from ddpm_cli.build.data import build_dataset
    from ddpm_cli.config.schema.data import FolderData

    write_folder(here / "pics", 30, ("a", "b"), (20, 30, 3))
    write_picture(here / "pics" / "a" / "low.png", 60, (9, 30, 3))
    training = check(capsys, "pics", "--size", "16", "--set", "data.small=skip", "--set", "data.held_out=0.3")["training"]
    dataset = build_dataset(FolderData(root=here / "pics", size="16", small="skip", held_out=0.3))
    assert training["train_images"] == len(dataset.train)
    assert training["held_out_images"] == len(dataset.test)
    assert training["shape"] == list(dataset.image_shape)
    assert training["skipped_small"] == 1


def test_check_is_no_error_where_training_would_refuse(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics", 4, shape=(20, 30, 3))
    write_picture(here / "pics" / "grey.png", 9, (20, 30))
    training = check(capsys, "pics", "--out", "preview.png")["training"]
    assert "1 are grey and 4 are colour" in training["refused"]
    assert "data.channels=3" in training["remedy"]
    assert not Path("preview.png").exists()
    assert check(capsys, "pics", "--channels", "1")["training"]["shape"] == [1, 20, 30]


def test_a_preview_holds_little_in_memory(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(here / "pics", 10)
    huge = check(capsys, "pics", "--size=99999", "--set=data.small=enlarge")  # decodes none of them at that size
    assert huge["training"]["shape"] == [3, 99999, 99999]
    assert "too large for a preview" in refused(
        capsys, "data", "check", "pics", "--size=99999", "--set=data.small=enlarge", "--out=p.png"
    )
    monkeypatch.setattr("ddpm_cli.data.pictures.check.PREVIEW_BYTES", 2 * 3 * 8 * 8)
    check(capsys, "pics", "--out=p.png")
    with Image.open("p.png") as picture:
        assert max(picture.size) < 3 * 8


def test_a_report_is_short_of_many_copies_and_says_one_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(40):
        write_picture(here / "pics" / f"{number:02d}.png", 1)
    write_picture(here / "pics" / "other.png", 2)
    assert run(["data", "check", "pics", "--set=data.held_out=0.99"], debug=False) == 0
    out = capsys.readouterr().out
    assert "08.png = 09.png and 30 more\n" in out
    (here / "two").mkdir()
    for number in range(2):
        write_picture(here / "two" / f"{number}.png", number)
    assert run(["data", "check", "two"], debug=False) == 0
    assert "1 image to train on" in capsys.readouterr().out


def test_the_report_in_a_pipe_is_plain_and_names_all(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics", 4)
    for number in range(12):
        (here / "pics" / f"broken-with-a-long-name-{number}.png").write_bytes(b"")
    capsys.readouterr()
    assert run(["data", "check", "pics"], debug=False) == 0
    out = capsys.readouterr().out
    assert all(f"broken-with-a-long-name-{number}.png: is empty\n" in out for number in range(12))
    assert "8x8, 3 channels" in out


# ------------------------------------------------------------------------------------------------------------- training


FILES = int(os.environ.get("MIXED_FILES", "500"))
"""MIXED_FILES=5000 takes a minute."""


def test_mixed_files_train_and_all_forty_broken_ones_are_named(here: Path, ddpm: Ddpm) -> None:
    root = here / "pics"
    for label in ("cats", "dogs", "other"):
        (root / label).mkdir(parents=True)
    broken = set()
    places = random.Random(0).sample(range(FILES), 40)
    files = dict(zip(places, broken_files(40), strict=True))
    for number in range(FILES):
        suffix, content = files.get(number) or mixed_picture(number)
        name = f"{('cats', 'dogs', 'other')[number % 3]}/{number:04}.{suffix}"
        (root / name).write_bytes(content)
        if number in files:
            broken.add(name)
    assert len(broken) == 40

    checked = ddpm("data", "check", "pics", "--size=16", "--channels=3", "--json", cwd=here)
    assert checked.returncode == 0, checked.stderr
    report = json.loads(checked.stdout)
    assert set(report["unreadable"]) == broken
    assert report["readable"] == FILES - 40
    assert {"1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F", "I", "CMYK", "YCbCr", "LAB"} <= set(report["modes"])

    arguments = ("--data=pics", "--size=16", "--set=data.channels=3", "--steps=2", "--name=mixed", "--set=model.num_classes=auto")
    done = ddpm("train", *SMALL, *arguments, cwd=here)
    assert done.returncode == 0, done.stderr
    assert "Left out 40 pictures of the folder" in done.stderr
    assert "ddpm data check" in done.stderr
    data = json.loads((here / "runs" / "mixed" / "run.json").read_text())["data"]
    assert set(data["unreadable"]) == broken
    assert data["unreadable_count"] == 40
    assert data["train_images"] + data["test_images"] == FILES - 40
    assert data["train_images"] == report["training"]["train_images"]
    assert data["image_shape"] == [3, 16, 16]
    assert data["classes"] == ["cats", "dogs", "other"]


def train(*arguments: str) -> int:
    return run(["train", *SMALL, "--steps=2", "--name=a", *arguments], debug=False)


def test_training_without_held_out_images(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics", 1, shape=(8, 12, 3))
    assert train("--data=pics", "--set=data.held_out=0", "--set=train.eval_every=1") == 0
    assert "1 image, 8x12, 3 channels, 0 held out" in " ".join(capsys.readouterr().err.split())
    rows = [json.loads(line) for line in Path("runs/a/metrics.jsonl").read_text().splitlines()]
    assert all("held_out_loss" not in row for row in rows)
    assert json.loads(Path("runs/a/run.json").read_text())["data"]["test_images"] == 0
    (checkpoint,) = Path("runs/a/checkpoints").iterdir()
    assert checkpoint.name == "step-00000002"
    assert run(["resume", "--steps=3"], debug=False) == 0
    capsys.readouterr()
    message = refused(capsys, "evaluate", "runs/a", "--metrics=bits-per-dim", "--n=2")
    assert "no held-out images" in message
    assert "data.held_out" in message


def test_arrays_through_the_flag(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 6, 10), np.uint8)
    np.savez("mine.npz", images=images, labels=np.arange(20) % 2)
    assert train("--data=mine.npz", "--set=model.num_classes=auto") == 0
    assert "6x10, 1 channel," in " ".join(capsys.readouterr().err.split())
    data = json.loads(Path("runs/a/run.json").read_text())["data"]
    assert data["classes"] == ["0", "1"]


@pytest.mark.parametrize("kind", ["folder", "array"])
def test_a_run_on_masks_goes_on_with_the_same_scale(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = np.random.default_rng(0).integers(0, 2, (20, 6, 10), np.uint8)
    if kind == "array":
        np.save("dark.npy", masks)
    for number, mask in enumerate(masks if kind == "folder" else ()):
        (here / "dark").mkdir(exist_ok=True)
        Image.fromarray(mask).save(here / "dark" / f"{number}.png")
    data = "--data=dark.npy" if kind == "array" else "--data=dark"
    assert train(data) == 0
    told = json.loads(Path("runs/a/run.json").read_text())["data"]["notices"]
    assert any("black is 0 and white is 1" in notice for notice in told)
    shutil.rmtree(here.parent / "cache", ignore_errors=True)
    assert run(["resume", "runs/a", "--steps=3"], debug=False) == 0, capsys.readouterr().err


def test_a_run_on_a_folder_goes_on_from_elsewhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(here / "pics", 10)
    assert train("--data=pics") == 0
    monkeypatch.chdir(here.parent)
    assert run(["resume", "here/runs/a", "--steps=3"], debug=False) == 0


def test_a_flipped_bit_of_the_cache_is_mended_and_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(here / "pics", 20)
    assert train("--data=pics", "--set=data.held_out=0", "--set=schedule.timesteps=20") == 0
    told = json.loads(Path("runs/a/run.json").read_text())["data"]["sha256"]
    (cached,) = (here.parent / "cache" / "images").glob("*/images.u8")
    content = bytearray(cached.read_bytes())
    assert hashlib.sha256(content).hexdigest() == told
    content[1000] ^= 1
    cached.write_bytes(content)
    capsys.readouterr()
    assert run(["resume", "a", "--steps=3"], debug=False) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert f"The cached images of the folder {here / 'pics'} are not used, its pictures are decoded again" in said
    assert "images.u8 does not match its sums in 1 of 1 blocks" in said
    assert hashlib.sha256(cached.read_bytes()).hexdigest() == told


# ------------------------------------------------------------------------------------------------------------- refusals


def empty(root: Path) -> None:
    root.mkdir()


def one_picture(root: Path) -> None:
    write_folder(root, 1)


def pictures_of_8(root: Path) -> None:
    write_folder(root, 4)


def class_without_pictures(root: Path) -> None:
    write_folder(root, 4, ("a", "b"))
    (root / "birds").mkdir()


def grey_and_colour(root: Path) -> None:
    write_folder(root, 4)
    write_picture(root / "grey.png", 9, (8, 8))


def two_sizes(root: Path) -> None:
    write_folder(root, 4)
    write_picture(root / "other.png", 9, (20, 8, 3))


def all_broken(root: Path) -> None:
    root.mkdir()
    (root / "a.png").write_bytes(b"")


def some_broken(root: Path) -> None:
    write_folder(root, 4)
    (root / "bad.png").write_bytes(b"")


def one_class(root: Path) -> None:
    write_folder(root, 4, ("only",))


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (empty, [], ["There are no pictures in the folder"]),
        (one_picture, [], ["only one image", "--set data.held_out=0"]),
        (pictures_of_8, ["--size=64"], ["4 of 4 pictures", "smaller than 64x64: 000.png (8x8)", "--size 8", "data.small=enlarge"]),
        (class_without_pictures, [], ["1 class folder without pictures, of 3", "birds/", "remove"]),
        (grey_and_colour, [], ["1 are grey and 4 are colour", "grey.png", "--set data.channels=3"]),
        (two_sizes, [], ["2 sizes", "8x8 (4), 20x8 (1)", "--size 8"]),
        (all_broken, [], ["Of 1 picture in", "a.png is empty"]),
        (some_broken, ["--strict"], ["1 picture in", "bad.png is empty", "--strict"]),
        (one_class, ["--set=model.num_classes=auto"], ["has no classes", "model.num_classes = none"]),
        (pictures_of_8, ["--size=big"], ["data.size", 'must be HxW such as "64x48"', "--size"]),
        (pictures_of_8, ["--size=0x4"], ["data.size", "must be at least 1"]),
        (pictures_of_8, ["--set=data.channels=17"], ['must be 1 to 16 or "auto"']),
        (pictures_of_8, ["--set=data.background=pink"], ['must be "white", "black" or "#rrggbb"']),
    ],
)
def test_refusals(here: Path, capsys: pytest.CaptureFixture[str], make: Any, arguments: list[str], words: list[str]) -> None:
    make(here / "pics")
    message = refused(capsys, "train", *SMALL, "--data=pics", "--steps=2", *arguments)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("fashion", ["--data fashion is no data set", "fashion-mnist", "celeba", "folder of pictures"]),
        ("missing/folder", ["no data set, and no folder or file of that name"]),
        ("note.txt", ["is a file, but none of .npz, .npy, .mat"]),
        ("bad.npz", ["cannot be read"]),
        ("folder", ["needs a folder", "--data DIR"]),
        ("arrays", ["needs a file", "--data FILE.npz"]),
        ("huggingface", ["needs the name", "--set data.name=NAME"]),
    ],
)
def test_what_is_no_data(here: Path, capsys: pytest.CaptureFixture[str], data: str, words: list[str]) -> None:
    Path("note.txt").write_text("text")
    Path("bad.npz").write_text("text")
    message = refused(capsys, "train", "--data", data, "--steps=2")
    assert [word for word in words if word not in message] == []


def test_a_size_for_data_that_has_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "train", "--data=mnist", "--size=64")
    assert 'the kind "mnist" has no such key' in message
    assert '"folder"' in message


@pytest.mark.parametrize(
    ("make", "arguments", "words"),
    [
        (empty, [], ["There are no pictures"]),
        (lambda root: None, [], ["no folder or file of that name"]),
        (some_broken, ["--strict"], ["bad.png is empty"]),
        (pictures_of_8, ["--out=no/such/preview.png"], ["its folder does not exist"]),
        (pictures_of_8, ["--out=preview.doc"], ["no picture format"]),
    ],
)
def test_refusals_of_check(
    here: Path, capsys: pytest.CaptureFixture[str], make: Any, arguments: list[str], words: list[str]
) -> None:
    make(here / "pics")
    message = refused(capsys, "data", "check", "pics", *arguments)
    assert [word for word in words if word not in message] == []


def advise(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON of `ddpm data advise`, run in this process."""
    capsys.readouterr()
    assert run(["data", "advise", *arguments, "--json"], debug=False) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_advice_counts_copies_and_its_command_is_one_that_trains(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(30):
        for name in (f"{number}.png", f"{number} again.png") if number < 5 else (f"{number}.png",):
            write_picture(here / "my pics" / name, number)
    advice = advise(capsys, "my pics", "--set=data.held_out=0")
    assert (advice["train_images"], advice["distinct_images"], advice["held_out_images"]) == (35, 30, 0)
    assert advice["steps"] == -(-advice["epochs"] * 35 // advice["batch_size"])
    assert (advice["augment"], advice["classes"], advice["smallest_class"]) == (0.15, 0, None)
    about = {point["about"]: point["advice"] for point in advice["points"]}
    assert "5 of 35 images" in about["copies among the images"]
    assert "none" in about["held-out images"]
    assert all(point["reason"] for point in advice["points"])
    command = shlex.split(advice["command"])
    assert command[:6] == ["ddpm", "train", "--preset", "quick", "--data", "my pics"]
    assert run([*command[1:], *SMALL, "--steps=2", "--name=advised"], debug=False) == 0
    config = tomllib.loads(Path("runs/advised/config.toml").read_text())
    assert (config["data"]["augment"], config["data"]["held_out"], config["train"]["epochs"]) == (0.15, 0, advice["epochs"])


def test_advice_says_less_of_copies_the_more_images_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    few, more = (advise(capsys, "fashion-mnist-10k", f"--set=data.limit={limit}") for limit in (100, 2000))
    assert few["epochs"] == 512
    assert more["epochs"] == 52
    assert (few["classes"], few["smallest_class"], more["smallest_class"]) == (10, 10, 200)
    when = [{point["about"]: point["advice"] for point in advice["points"]}["when samples become copies"] for advice in (few, more)]
    assert when[0].startswith("perhaps")
    assert when[1].startswith("not within 51 epochs")
    assert any("below 1,000 images" in line for line in few["unknown"])
    assert not any("below 1,000 images" in line for line in more["unknown"])


def test_advice_is_printed_with_its_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "advise", "fashion-mnist-10k", "--set=data.limit=100"], debug=False) == 0
    out = capsys.readouterr().out
    line = out.splitlines()[-1]
    assert line == "  ddpm train --preset quick --data fashion-mnist-10k --set=data.limit=100 --epochs=512 --set=data.augment=0.15"
    assert "Karras et al. 2022" in out
    assert "not known:" in out


def test_advice_on_nothing_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no data set, and no folder or file" in refused(capsys, "data", "advise", "nowhere")


def test_single_pixels_are_not_augmented(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("dots.npy", np.arange(60, dtype=np.uint8).reshape(60, 1, 1))
    assert "nothing to turn in pictures of 1x1" in refused(capsys, "train", "--data=dots.npy", *SMALL, "--set=data.augment=0.1")
