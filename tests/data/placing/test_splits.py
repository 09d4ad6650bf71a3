"""What the folders of a data set are taken for, by their names alone; layouts as people publish them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_cli.data.placing.splits import Arrangement, Folders, arrange
from ddpm_cli.errors import DataError

ROOT = Path("set")


def folders(*names: str) -> Folders:
    """From paths: those ending in a slash are folders without pictures, those ending in a star with some."""
    filled = {name.removesuffix("*") for name in names if name.endswith("*")}
    every = {path for name in names for path in _above(name.removesuffix("*"))}
    return Folders(frozenset(filled), frozenset(every))


def _above(folder: str) -> list[str]:
    parts = folder.rstrip("/").split("/")
    return [f"{'/'.join(parts[: count + 1])}/" for count in range(len(parts)) if folder]


def found(*names: str, splits: str = "auto") -> Arrangement:
    return arrange(folders(*names), ROOT, splits)  # type: ignore[arg-type] # parametrised


CAT_DOG = ("cat", "dog")


@pytest.mark.parametrize(
    ("names", "train", "held_out", "classes"),
    [
        # flat, classes
        (["*"], "", None, ()),
        (["cat/*", "dog/*"], "", None, CAT_DOG),
        (["cat/*", "dog/deep/er/*", "*"], "", None, CAT_DOG),
        (["only/*", "*"], "", None, ()),
        # splits with classes, and flat
        (["train/cat/*", "train/dog/*", "val/cat/*", "val/dog/*", "test/cat/*", "test/dog/*"], "train/", "val/", CAT_DOG),
        (["Train/cat/*", "Train/dog/*", "Test/cat/*", "Test/dog/*"], "Train/", "Test/", CAT_DOG),
        (["training/cat/*", "training/dog/*", "testing/cat/*"], "training/", "testing/", CAT_DOG),
        (["TRAIN/*", "VALIDATION/*"], "TRAIN/", "VALIDATION/", ()),
        (["train/*", "dev/*"], "train/", "dev/", ()),
        (["train/*", "eval/*", "test/*"], "train/", "eval/", ()),
        (["trains/*", "tests/*"], "trains/", "tests/", ()),
        (["train/*", "test1/*"], "train/", "test1/", ()),
        (["train2017/*", "val2017/*", "annotations/"], "train2017/", "val2017/", ()),
        (["training_set/training_set/cat/*", "training_set/training_set/dog/*", "test_set/test_set/cat/*"],
         "training_set/training_set/", "test_set/test_set/", CAT_DOG),
        (["seg_train/seg_train/cat/*", "seg_train/seg_train/dog/*", "seg_test/seg_test/dog/*", "seg_pred/seg_pred/*"],
         "seg_train/seg_train/", "seg_test/seg_test/", CAT_DOG),
        *[([f"{a}/cat/*", f"{a}/dog/*", f"{b}/cat/*", f"{b}/dog/*"], f"{a}/", f"{b}/", CAT_DOG) for a, b in (
            ("train", "heldout"), ("train", "held-out"), ("Train", "HoldOut"), ("train", "validate"), ("train", "infer"),
            ("traindata", "testdata"), ("trainimages", "testimages"), ("Learn", "Test"))],
        (["train/a/*", "train/b/*", "query/a/*", "gallery/a/*", "gallery/b/*"], "train/", "gallery/", ("a", "b")),
        # train alone, and one level too high
        (["train/cat/*", "train/dog/*"], "train/", None, CAT_DOG),
        (["train/*"], "train/", None, ()),
        (["train/*", "*"], "train/", None, ()),
        (["train/*", "test/"], "train/", None, ()),
        (["dataset/cat/*", "dataset/dog/*"], "dataset/", None, CAT_DOG),
        (["archive/dataset/train/cat/*", "archive/dataset/train/dog/*", "archive/dataset/test/dog/*"],
         "archive/dataset/train/", "archive/dataset/test/", CAT_DOG),
        (["train/train/cat/*", "train/train/dog/*"], "train/train/", None, CAT_DOG),
        # what has no classes cannot be held out beside what has
        (["train/cat/*", "train/dog/*", "test/*"], "train/", None, CAT_DOG),
        (["train/cat/images/*", "train/dog/images/*", "val/images/*", "test/cat/*"], "train/", "test/", CAT_DOG),
        # pictures beside their annotations
        (["images/*", "labels/"], "images/", None, ()),
        (["images/train/*", "images/val/*", "labels/train/", "labels/val/"], "images/train/", "images/val/", ()),
        (["train/images/*", "train/labels/", "valid/images/*", "valid/labels/", "test/images/*"],
         "train/images/", "valid/images/", ()),
        (["images/*", "masks/*"], "images/", None, ()),
        (["train/images/*", "train/masks/*", "test/images/*", "test/masks/*"], "train/images/", "test/images/", ()),
        (["JPEGImages/*", "SegmentationClass/*", "SegmentationObject/*", "Annotations/", "ImageSets/"], "JPEGImages/", None, ()),
        (["train/*", "train_masks/*", "test/*"], "train/", "test/", ()),
        (["train/good/*", "test/good/*", "test/broken/*", "ground_truth/broken/*"], "train/good/", "test/good/", ()),
        (["images/cat/*", "images/dog/*", "attributes/"], "images/", None, CAT_DOG),
        # classes that are called like splits
        (["car/*", "train/*", "plane/*"], "", None, ("car", "plane", "train")),
        (["bullet_train/*", "steam_train/*"], "", None, ("bullet_train", "steam_train")),
        (["train/car/*", "train/train/*", "test/train/*"], "train/", "test/", ("car", "train")),
        (["electric_train/*", "test_tube/*", "cup/*"], "", None, ("cup", "electric_train", "test_tube")),
        (["with_mask/*", "without_mask/*"], "", None, ("with_mask", "without_mask")),
        (["text/*", "label/*"], "", None, ("label", "text")),
        (["valid/*", "invalid/*"], "", None, ("invalid", "valid")),
        (["gallery/cat/*", "gallery/dog/*"], "gallery/", None, CAT_DOG),
        (["gallery/*", "museum/*"], "", None, ("gallery", "museum")),
        (["train/steam/*", "train/electric/*", "car/small/*"], "", None, ("car", "train")),
        # folders in classes
        (["2019/01/*", "2019/02/*", "2020/01/*", "2020/02/*"], "", None, ("2019", "2020")),
        (["cat/images/*", "cat/masks/*", "dog/images/*", "dog/masks/*"], "", None, CAT_DOG),
        (["cat/front/*", "cat/side/*", "dog/front/*", "dog/sleeping/*"], "", None, CAT_DOG),
        ([f"{name}/{side}/*" for name in "abcdefghijk" for side in ("front", "side")], "", None, tuple("abcdefghijk")),
    ],
)  # fmt: skip
def test_layouts(names: list[str], train: str, held_out: str | None, classes: tuple[str, ...]) -> None:
    assert found(*names)[:3] == (train, held_out, classes)


@pytest.mark.parametrize(
    ("names", "aside"),
    [
        (["train/*", "val/*", "test/*"], {"test/": "val/ is held out"}),
        (["train/cat/*", "train/dog/*", "test/*"], {"test/": "no classes as in train/"}),
        (["images/*", "labels/"], {"labels/": "annotations are not read"}),
        (["train/good/*", "test/good/*", "test/bad/*"], {"test/bad/": "no such folder in train/"}),
    ],
)
def test_what_is_used_for_nothing_is_told(names: list[str], aside: dict[str, str]) -> None:
    assert dict(found(*names).aside) == aside


@pytest.mark.parametrize(
    ("names", "reason", "remedy"),
    [
        (["test/*"], "The folder test/ looks like a split of set, but there is none to train on", "--data set/test"),
        (["train/", "test/*"], "train/ has no pictures", "--data set/test"),
        (["train/*", "test/*", "more/*"], "more/ beside them is neither", "--data set/train"),
        (["trainA/*", "trainB/*", "testA/*", "testB/*"], "does not show which of them belong together", "--data set/trainA"),
        (
            ["train/cat/*", "train/dog/*", "test/cat/*", "test/bird/*"],
            "test/ in set has classes that train/ has not: bird",
            "set/train",
        ),
        (["train/cat/*", "test/dog/*", "test/bird/*"], "has classes that train/ has not: bird, dog", "--data set/train"),
        (["cat/train/*", "cat/test/*", "dog/train/*", "dog/test/*"], "cat/ in set has splits of its own", "data.splits=none"),
        *[([f"{name}/{inner}/*" for name in names for inner in ("cat", "dog")], "folders of the same names, cat, dog,", f"{one};")
          for names, one in ((("tr", "te"), "--data set/te"), (("训练", "测试"), "--data 'set/测试'"),
                             (("fold1", "fold2", "fold3"), "--data set/fold1"), (("train", "docs"), "--data set/train"))],
        (["tr/images/cat/*", "tr/images/dog/*", "te/images/cat/*", "te/images/dog/*"], "same names, cat, dog,", "Rename one"),
        (["f1/a/*", "f1/b/*", "f1/c/*", "f1/d/*", "f2/a/*", "f2/b/*"], "same names, a, b,", "--set data.splits=none"),
        (["f1/a/*", "f1/b/*", "f2/a/*", "f2/b/*", "f3/a/*", "f3/b/*"], "The folders f1/, f2/, f3/ in", "--set data.splits=none"),
        (["entrainement/cat/*", "test/cat/*"], "The folder test/ looks like a split of set, but entrainement/", "data.splits=none"),
        (["cat/*", "dog/*", "test/*"], "test/ looks like a split of set, but cat/, dog/ beside it is none", "into a folder train"),
        (["train/cat/*", "train/dog/*", "docs/*"], "train/ looks like a split of set, but docs/ beside it", "--data set/train"),
        (["train/*", "plane/"], "1 class folder without pictures, of 2: plane/", "--data set/train"),
        (["train/cat/*", "train/dog/", "test/cat/*"], "1 class folder without pictures, of 2: train/dog/", "remove"),
    ],
)  # fmt: skip
def test_what_looks_like_splits_and_cannot_be_used_is_refused(names: list[str], reason: str, remedy: str) -> None:
    with pytest.raises(DataError) as error:
        found(*names)
    assert reason in error.value.message
    assert remedy in error.value.remedy


def test_long_paths_are_shortened_in_messages() -> None:
    deep = "/".join(["d" * 29] * 100)
    text = found(f"{deep}/train/*", f"{deep}/test/*").text
    assert len(text) < 300
    assert "ddd/train/ (3,006 characters) to train on" in text
    assert "ddd/test/ (3,005 characters) held out" in text
    with pytest.raises(DataError) as error:
        found(f"{deep}/test/*")
    assert len(error.value.message) < 300


@pytest.mark.parametrize("names", [["train/*", "test/*", "val/*"], ["trainA/*", "testB/*"], ["cat/train/*", "dog/test/*"]])
def test_folders_are_classes_where_that_is_said(names: list[str]) -> None:
    tops = sorted({name.partition("/")[0] for name in names})
    assert found(*names, splits="none") == Arrangement("", None, tuple(tops))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/*", "test/*", "val/*"], Arrangement("", None, ("test", "train", "val"))),
        (["train/a/*", "test/b/*"], Arrangement("train/", "test/", ("a", "b"))),
        (["Train/*", "Test/*"], Arrangement("", None, ("Test", "Train"))),
        (["only/*", "*"], Arrangement("", None, ("only",))),
    ],
)
def test_older_runs_go_on_as_they_were_begun(names: list[str], expected: Arrangement) -> None:
    assert found(*names, splits="old") == expected
