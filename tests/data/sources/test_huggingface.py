from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import write_folder, write_picture
from PIL import Image

from ddpm_cli.build.data import with_absolute_paths
from ddpm_cli.build.network import with_classes
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.data import HuggingFaceData
from ddpm_cli.data.cache import loading
from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.sources.huggingface import HubQuery, load_huggingface
from ddpm_cli.errors import ConfigError, DataError, RequestError
from ddpm_cli.results.events import Event, Notice


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    import datasets

    home = tmp_path_factory.mktemp("hub")
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(home))


def saved(folder: Path, count: int = 20, **columns: Any) -> str:
    """A data set as the library saves it: pictures of noise, embedded, and their classes."""
    import datasets

    paths = [str(write_picture(folder / "source" / f"{number}.png", number)) for number in range(count)]
    features = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])}
    data = {"picture": paths, "kind": [number % 2 for number in range(count)], **columns}
    made = datasets.Dataset.from_dict(data).cast_column("picture", features["picture"]).cast_column("kind", features["kind"])
    datasets.DatasetDict({"train": made, "held": made.select(range(4))}).save_to_disk(str(folder / "set"))
    return str(folder / "set")


def pixels(folder: Path, number: int) -> bytes:
    with Image.open(folder / "source" / f"{number}.png") as image:
        return np.asarray(image).transpose(2, 0, 1).tobytes()


def test_columns_are_found_by_their_kind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    dataset = load_huggingface(HubQuery(saved(tmp_path)), PictureSettings(held_out=0.2))
    capfd.readouterr()  # the library's own bars while the test saved
    label_of = {pixels(tmp_path, number): number % 2 for number in range(20)}
    found = {}
    for part in (dataset.train, dataset.test):
        assert part.class_names == ("cat", "dog")
        found |= {image.tobytes(): label for image, label in zip(part.images, part.labels.tolist(), strict=True)}
    assert found == label_of
    assert len(dataset.test) > 0


def test_a_split_can_be_held_out(tmp_path: Path) -> None:
    dataset = load_huggingface(HubQuery(saved(tmp_path), held_out_split="held"), PictureSettings())
    assert (len(dataset.train), len(dataset.test)) == (20, 4)
    assert {image.tobytes() for image in dataset.test.images} == {pixels(tmp_path, number) for number in range(4)}


def test_a_second_start_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = HubQuery(saved(tmp_path))
    first = load_huggingface(query, PictureSettings())

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(loading, "survey", refuse)
    np.testing.assert_array_equal(load_huggingface(query, PictureSettings()).train.images, first.train.images)


def test_a_folder_in_the_librarys_layout(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in" / "train", 12, ("cat", "dog")).parent
    dataset = load_huggingface(HubQuery(str(root)), PictureSettings(size=(4, 4)))
    assert dataset.train.class_names == ("cat", "dog")
    assert len(dataset.train) + len(dataset.test) == 12
    assert dataset.image_shape == (3, 4, 4)


def test_nothing_of_the_library_is_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = write_folder(tmp_path / "in" / "train", 4).parent
    capfd.readouterr()
    load_huggingface(HubQuery(str(root)), PictureSettings())
    assert capfd.readouterr() == ("", "")


def test_a_broken_row_is_named(tmp_path: Path) -> None:
    import datasets

    content = [write_picture(tmp_path / f"{number}.png", number).read_bytes() for number in range(6)]
    rows = [{"bytes": data, "path": None} for data in (*content[:3], b"broken", *content[3:])]
    made = datasets.Dataset.from_dict({"image": rows}).cast_column("image", datasets.Image())
    made.save_to_disk(str(tmp_path / "set"))
    dataset = load_huggingface(HubQuery(str(tmp_path / "set")), PictureSettings())
    assert dataset.unreadable == ("train[3]",)
    assert dataset.train.class_names == ()
    assert len(dataset.train) + len(dataset.test) == 6


def test_several_columns_of_images_need_a_name(tmp_path: Path) -> None:
    import datasets

    name = saved(tmp_path)
    made = datasets.load_from_disk(name)["train"]
    made = made.add_column("other", made["kind"][:]).cast_column("picture", datasets.Image(decode=False))
    made = made.add_column("second", made["picture"][:]).cast_column("second", datasets.Image())
    made = made.cast_column("picture", datasets.Image())
    made.save_to_disk(str(tmp_path / "two"))
    with pytest.raises(DataError, match=r"several columns for data\.image_column: picture, second"):
        load_huggingface(HubQuery(str(tmp_path / "two")), PictureSettings())
    dataset = load_huggingface(HubQuery(str(tmp_path / "two"), image_column="second", label_column="other"), PictureSettings())
    assert dataset.train.class_names == ("0", "1")
    for column in ({"image_column": "absent"}, {"label_column": "absent"}):
        with pytest.raises(DataError, match="no column 'absent'"):
            load_huggingface(HubQuery(str(tmp_path / "two"), **{"image_column": "second", **column}), PictureSettings())


def with_labels(folder: Path, values: list[Any], kind: Any = None) -> str:
    """A saved data set of one picture for each of the labels, in the column `label`."""
    import datasets

    paths = [str(write_picture(folder / "source" / f"{number}.png", number)) for number in range(len(values))]
    made = datasets.Dataset.from_dict({"image": paths, "label": values}).cast_column("image", datasets.Image())
    (made if kind is None else made.cast_column("label", kind)).save_to_disk(str(folder / "set"))
    return str(folder / "set")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["dog", "cat", "ant"] * 4, ("ant", "cat", "dog")),
        ([9, 1, 5] * 4, ("1", "5", "9")),
        ([1.0, 2.0] * 6, ("1", "2")),
        ([True, False] * 6, ("False", "True")),
        ([-1, 1] * 6, ("-1", "1")),
        (["same"] * 12, ()),
    ],
)
def test_texts_and_numbers_with_gaps_are_classes(tmp_path: Path, values: list[Any], names: tuple[str, ...]) -> None:
    dataset = load_huggingface(HubQuery(with_labels(tmp_path, values), label_column="label"), PictureSettings())
    assert dataset.train.class_names == names
    found = {
        image.tobytes(): names[label] if names else str(values[0])
        for part in (dataset.train, dataset.test)
        for image, label in zip(part.images, part.labels.tolist(), strict=True)
    }
    stored = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    assert found == {pixels(tmp_path, number): text for number, text in enumerate(stored)}


def test_a_column_that_seems_to_hold_classes_is_named_and_a_class_without_pictures_is_left_out(tmp_path: Path) -> None:
    import datasets

    dataset = load_huggingface(HubQuery(with_labels(tmp_path / "a", ["dog", "cat"] * 6)), PictureSettings())
    assert dataset.train.class_names == ()
    assert "--set data.label_column=label" in dataset.notices[0]
    config = load_config(sets=["model.num_classes=auto"], flags={"data.kind": ("huggingface", "--data")}).config
    with pytest.raises(ConfigError, match=r"has no classes, as no column is read for them; some may be in: label") as caught:
        with_classes(config, dataset.train.class_names, dataset.label_columns)
    assert caught.value.remedy == "Name the column: --set data.label_column=label; or set model.num_classes = none."
    kind = datasets.ClassLabel(names=["cat", "unknown", "dog"])
    dataset = load_huggingface(HubQuery(with_labels(tmp_path / "b", [0, 2] * 6, kind)), PictureSettings())
    assert (dataset.train.class_names, dataset.label_columns) == (("cat", "dog"), ())
    assert dataset.notices[0] == "No picture is of 1 class that the data set names: unknown."


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([0.5, 1.0] * 6, r"holds 0\.5, which is no class, for image 0 of 12"),
        ([[1], [2, 3]] * 6, "holds a list, which is no class"),
        (["a", None] * 6, "has no class for image 1 of 12"),
    ],
)
def test_what_is_no_class_is_named(tmp_path: Path, values: list[Any], reason: str) -> None:
    with pytest.raises(DataError, match=f"The column label of .*, split train, {reason}"):
        load_huggingface(HubQuery(with_labels(tmp_path, values), label_column="label"), PictureSettings())


def test_a_split_without_its_classes_cannot_be_held_out(tmp_path: Path) -> None:
    import datasets

    kind = datasets.ClassLabel(names=["cat", "dog"])
    made = datasets.load_from_disk(with_labels(tmp_path, [0, 1, 0, -1], kind))
    datasets.DatasetDict({"train": made.select(range(3)), "test": made.select([3])}).save_to_disk(str(tmp_path / "both"))
    with pytest.raises(DataError, match="split test, has no class for image 0 of 1") as caught:
        load_huggingface(HubQuery(str(tmp_path / "both"), held_out_split="test"), PictureSettings())
    assert "leave out data.held_out_split" in caught.value.remedy


def test_no_images_and_no_such_split(tmp_path: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"text": ["a", "b"]}).save_to_disk(str(tmp_path / "text"))
    with pytest.raises(DataError, match=r"no column of images: text \(Value\)"):
        load_huggingface(HubQuery(str(tmp_path / "text")), PictureSettings())
    with pytest.raises(DataError, match="split absent, cannot be loaded"):
        load_huggingface(HubQuery(saved(tmp_path), split="absent"), PictureSettings())


def test_no_network_is_one_message(tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(DataError, match="no-one/nothing, split train, cannot be loaded") as caught:
        load_huggingface(HubQuery("no-one/nothing"), PictureSettings(), events.append)
    assert "network" in caught.value.remedy
    assert isinstance(events[0], Notice)


def test_a_missing_library_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(RequestError) as caught:
        load_huggingface(HubQuery("any"), PictureSettings())
    assert "pip install 'ddpm-cli[huggingface]'" in caught.value.remedy


def test_a_local_folder_is_found_from_elsewhere_and_a_name_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pics").mkdir()
    monkeypatch.chdir(tmp_path)
    assert with_absolute_paths(HuggingFaceData(name="pics")).name == str(tmp_path / "pics")
    assert with_absolute_paths(HuggingFaceData(name="mnist")).name == "mnist"
