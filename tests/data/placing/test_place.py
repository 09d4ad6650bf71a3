"""A folder and its archives are one data set: the same pictures, classes, splits and cache entry, or the same refusal."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.schema.data import ArchiveData, FolderData, OwnPictures
from ddpm_cli.data.pictures.survey import survey
from ddpm_cli.data.placing import tables
from ddpm_cli.errors import DataError

SETTINGS = {"size": (4, 4), "small": "enlarge", "held_out": 0.2}


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (4, 4), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def named(*patterns: str, each: int = 2) -> dict[str, bytes]:
    """Pictures, some for each pattern, whose star is a number."""
    names = [pattern.replace("*", f"{number:02}") for pattern in patterns for number in range(each if "*" in pattern else 1)]
    return {name: picture(number) for number, name in enumerate(names)}


def labelled(*patterns: str, table: str = "dataset.json", each: int = 2, below: str = "", skip: int = 0) -> dict[str, bytes]:
    """Pictures and a table of their classes, without those of the last few; a folder ends in a slash."""
    files = named(*patterns, each=each)
    rows = [(name.removeprefix(below), number % 2) for number, name in enumerate(files)][: len(files) - skip]
    if table.endswith("dataset.json"):
        text = json.dumps({"labels": rows})
    elif table.endswith("l"):
        text = "\n".join(json.dumps({"file_name": name, "kind": "ab"[kind]}) for name, kind in rows)
    else:
        text = "\n".join(["file_name,kind", *(f"{name},{kind}" for name, kind in rows)])
    return files | {table: text.encode()}


def marks(*samples: str) -> dict[str, bytes]:
    """The files of samples' classes."""
    return {f"{sample}.cls": str(number % 2).encode() for number, sample in enumerate(samples)}


LOOSE = labelled("a/*.png", "b/*.png", "loose.png")
SPLIT = ("train/*.png", "val/*.png")
TWO_EACH = named("*.a.png", "*.b.jpg", "03.a.png") | marks("00", "01", "03")
LAYOUTS: dict[str, tuple[dict[str, bytes], dict[str, object]]] = {
    "flat": (named("*.png"), {}),
    "classes": (named("a/*.png", "b/*.png"), {}),
    "classes with more folders": (named("a/x/*.png", "a/y/*.png", "b/*.png", "a b/*.png"), {}),
    "splits": (named(*SPLIT, "test/*.png"), {}),
    "splits of classes": (named("train/a/*.png", "train/b/*.png", "val/a/*.png", "val/b/*.png", "train/loose.png", "x.png"), {}),
    "splits taken for classes": (named(*SPLIT, "test/*.png"), {"splits": "none"}),
    "splits taken for classes in one folder": (named("set/train/*.png", "set/val/*.png"), {"splits": "none"}),
    "loose pictures": (named("a/*.png", "b/*.png", "loose.png"), {}),
    "one folder": (named("only/*.png"), {}),
    "one folder in one": (named("only/set/a/*.png", "only/set/b/*.png"), {}),
    "one folder and an empty one": (named("only/*.png") | {"empty/": b""}, {}),
    "one folder named as a split": (named("test/*.png"), {}),
    "one folder that would be trained on": (named("train/a/*.png", "train/b/*.png"), {}),
    "images beside labels": (named("images/*.png") | {"labels/00.txt": b"", "labels/01.txt": b""}, {}),
    "folders of the same folders": (named("one/a/*.png", "one/b/*.png", "two/a/*.png", "two/b/*.png"), {}),
    "unusual suffixes": (named("a/*.PNG", "b/*.Jpg", "b/no suffix", "b/notes.TXT", "a/x.tar.png"), {}),
    "hidden": (
        named("*.png", ".hidden.png", ".git/x.png", "__MACOSX/._00.png", "a/._x.png", "@eaDir/00.png", "__MACOSX/a/b.png"),
        {},
    ),
    "dataset.json": (labelled("00000/*.png", "00001/*.png", each=4), {}),
    "dataset.json and a loose picture": (LOOSE, {}),
    "dataset.json that lacks some": (labelled("a/*.png", "b/*.png", skip=1), {}),
    "dataset.json of no classes": (named("a/*.png", "b/*.png") | {"dataset.json": b'{"labels": null}'}, {}),
    "dataset.json beside splits": (labelled(*SPLIT, each=4), {}),
    "dataset.json within splits": (labelled(*SPLIT, table="train/dataset.json", below="train/"), {}),
    "dataset.json in one folder": (labelled("only/*.png", table="only/dataset.json", below="only/", each=4), {}),
    "dataset.json above and in one folder": (LOOSE | {"a/dataset.json": b"[]"}, {}),
    "dataset.json that is no text": (named("*.png") | {"dataset.json": b"\xff\xfe\xff"}, {}),
    "metadata that is no text and that nobody asked for": (named("*.png") | {"metadata.csv": b"file_name,\xff\n1,2"}, {}),
    "metadata that is no text": (named("*.png") | {"metadata.csv": b"file_name,kind\n00.png,\xff"}, {"label_column": "kind"}),
    "metadata": (labelled("*.png", table="metadata.csv", each=4), {"label_column": "kind"}),
    "metadata of texts": (labelled("*.png", table="metadata.jsonl", each=4), {"label_column": "kind"}),
    "metadata that nobody asked for": (labelled("a/*.png", "b/*.png", table="metadata.csv"), {}),
    "metadata over class folders": (labelled("a/*.png", "b/*.png", "x.png", table="metadata.csv"), {"label_column": "kind"}),
    "metadata over splits": (labelled(*SPLIT, table="metadata.csv", each=4), {"label_column": "kind"}),
    "metadata over splits that are none": (labelled(*SPLIT, table="metadata.csv"), {"label_column": "kind", "splits": "none"}),
    "metadata in a split": (
        labelled(*SPLIT, table="train/metadata.csv", below="train/", skip=2)
        | {"val/metadata.csv": b"file_name,kind\n00.png,0\n01.png,1"},
        {"label_column": "kind"},
    ),
    "metadata that lacks some": (labelled("*.png", table="metadata.csv", each=4, skip=1), {"label_column": "kind"}),
    "metadata that lacks what is left aside": (
        labelled(*SPLIT, "test/*.png", table="metadata.csv", skip=2),
        {"label_column": "kind"},
    ),
    "metadata without that column": (labelled("*.png", table="metadata.csv"), {"label_column": "colour"}),
    "a column without metadata": (named("*.png"), {"label_column": "kind"}),
    "samples": (named("*.png", each=4) | {f"0{number}.cls": str(number % 2).encode() for number in range(4)}, {}),
    "samples of two pictures": (TWO_EACH, {}),
    "samples of two pictures of which one is named": (TWO_EACH, {"image_column": "A.png"}),
    "samples beside masks": (named("*.png", "*.mask.png", each=3) | marks("00", "01", "02"), {}),
    "samples beside masks of which one has lost its picture": (named("*.png", "*.mask.png", "02.mask.png") | marks("00", "01"), {}),
    "samples beside masks in splits": (
        named("train/*.png", "train/*.mask.png", "val/*.png", "test/*.a.png", "test/*.b.png")
        | marks("train/00", "train/01", "val/00", "val/01"),
        {},
    ),
    "samples beside masks, which are wanted": (
        named("*.png", "*.mask.png", each=3) | marks("00", "01", "02"),
        {"image_column": ".mask.png"},
    ),
    "one extension of several in class folders": (named("a/*.png", "a/*.mask.png", "b/*.jpg", "b/*.png"), {"image_column": "png"}),
    "an extension that none has": (named("*.png", "*.mask.png"), {"image_column": "jpg"}),
    "an extension that only what is left aside has": (named(*SPLIT, "test/*.jpg"), {"image_column": "jpg"}),
    "samples with notes": (
        named("*.png", each=4) | {f"0{number}.json": json.dumps({"kind": number % 2}).encode() for number in range(4)},
        {"label_column": "kind"},
    ),
    "a file called as a class, of no sample": (named("a/*.png", "b/*.png") | {"article.cls": b"% of LaTeX"}, {}),
    "dataset.json of another program": (named("a/*.png", "b/*.png") | {"dataset.json": b'{"info": "mine"}'}, {}),
    "such a one in the only folder": (named("only/a/*.png", "only/b/*.png") | {"only/dataset.json": b'{"info": "mine"}'}, {}),
    "a sample that lacks its class": (named("*.png") | {"00.cls": b"1"}, {}),
}
REFUSED = {
    *("one folder named as a split", "one folder and an empty one", "folders of the same folders", "dataset.json that lacks some"),
    *(
        "dataset.json that is no text",
        "metadata that is no text",
        "metadata that lacks some",
        "metadata without that column",
        "a column without metadata",
    ),
    *("a sample that lacks its class", "samples of two pictures"),
    *("an extension that none has", "an extension that only what is left aside has"),
}


class Found(NamedTuple):
    """What became of a layout: all but the refusal is empty where it was refused."""

    names: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    held_out: tuple[bool, ...] | None = None
    notices: tuple[str, ...] = ()
    others: int = 0
    content: str = ""
    refusal: str = ""


def unpack(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("/"):
            (folder / name).mkdir(exist_ok=True)
        else:
            (folder / name).write_bytes(content)
    return folder


def pack(folder: Path, archive: Path, around: str) -> Path:
    """As `zip -r` and `tar -c` do, folders and all, from within the folder or from beside it."""
    paths = list(folder.rglob("*"))
    members = [(path, f"{around}{path.relative_to(folder).as_posix()}") for path in paths]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as packed:
            for path, name in members:
                packed.write(path, name)
        return archive
    with tarfile.open(archive, "w") as packed_tar:
        for path, name in members:
            packed_tar.add(path, name or ".", recursive=False)
    return archive


def look(data: OwnPictures, path: Path) -> Found:
    """What a collection is found to be, in words that do not say how it is packed."""
    try:
        found = data.find_pictures()
    except DataError as error:
        return Found(refusal=plain(error.message, path))
    held_out = None if found.held_out is None else tuple(found.held_out.tolist())
    notices = tuple(plain(notice, path) for notice in found.notices)
    labels = tuple(found.class_names[label] if found.class_names else "" for label in found.labels.tolist())
    return Found(tuple(found.names), labels, found.class_names, held_out, notices, found.ignored_files, survey(found).content)


def plain(text: str, path: Path) -> str:
    return text.replace(str(path), "ROOT").replace("archive", "folder").replace("ROOT/", "ROOT")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_and_its_archives_are_the_same(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    files, settings = LAYOUTS[layout]
    folder = unpack(tmp_path / "photos", files)
    expected = look(FolderData(root=folder, **settings), folder)  # type: ignore[arg-type]
    assert bool(expected.refusal) == (layout in REFUSED), expected
    for suffix in ("zip", "tar"):
        for around in ("", "./", "photos/"):
            archive = pack(folder, tmp_path / f"photos.{suffix}", around)
            assert look(ArchiveData(path=archive, **settings), archive) == expected, (suffix, around)  # type: ignore[arg-type]
            archive.unlink()


FOREIGN = [layout for layout in LAYOUTS if layout.startswith(("a file called as a class", "dataset.json of another", "such a one"))]


@pytest.mark.parametrize("layout", FOREIGN)
def test_files_of_other_programs_take_no_class_away(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    folder = unpack(tmp_path / "photos", LAYOUTS[layout][0])
    assert build_dataset(FolderData(root=folder)).train.class_names == ("a", "b")


RENAMED = sorted(set(LAYOUTS) - REFUSED)


@pytest.mark.parametrize("layout", RENAMED)
def test_so_is_one_that_was_packed_from_beside_and_is_called_otherwise(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the names, which have one more folder before them, and what is said of them."""
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    files, settings = LAYOUTS[layout]
    folder = unpack(tmp_path / "photos", files)
    expected = look(FolderData(root=folder, **settings), folder)  # type: ignore[arg-type]
    archive = pack(folder, tmp_path / "download.zip", "photos/")
    found = look(ArchiveData(path=archive, **settings), archive)  # type: ignore[arg-type]
    assert found.names == tuple(f"photos/{name}" for name in expected.names)
    assert found._replace(names=(), notices=()) == expected._replace(names=(), notices=())


@pytest.mark.parametrize(
    "layout", ["splits of classes", "dataset.json and a loose picture", "metadata over splits", "one folder in one"]
)
def test_the_cache_has_one_entry_of_both(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    files, settings = LAYOUTS[layout]
    folder = unpack(tmp_path / "photos", files)
    archives = [pack(folder, tmp_path / f"photos.{suffix}", around) for suffix, around in (("zip", ""), ("tar", "photos/"))]
    own: list[FolderData | ArchiveData] = [FolderData(root=folder, **(SETTINGS | settings))]  # type: ignore[arg-type]
    own += [ArchiveData(path=archive, **(SETTINGS | settings)) for archive in archives]  # type: ignore[arg-type]
    first, *others = [build_dataset(data) for data in own]
    for other in others:
        assert (other.sha256, other.train.class_names) == (first.sha256, first.train.class_names)
        for one, same in ((first.train, other.train), (first.test, other.test)):
            assert np.array_equal(one.images, same.images)
            assert np.array_equal(one.labels, same.labels)
    assert len(list((tmp_path / "cache/images").glob("*/entry.json"))) == 1


@pytest.mark.parametrize("splits", ["auto", "none"])
def test_so_is_a_parquet_file_that_keeps_the_names_and_the_classes(splits: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import Table, parquet

    files = labelled(*SPLIT, "test/*.png", table="metadata.csv", each=3)
    folder = unpack(tmp_path / "photos", files)
    names = [name for name in files if name.endswith(".png")]
    rows = [{"image": {"bytes": files[name], "path": name}, "kind": number % 2} for number, name in enumerate(names)]
    parquet.write_table(Table.from_pylist(rows), tmp_path / "photos.parquet")
    settings = {"label_column": "kind", "splits": splits}
    expected = look(FolderData(root=folder, **settings), folder)  # type: ignore[arg-type]
    found = look(ArchiveData(path=tmp_path / "photos.parquet", **settings), tmp_path / "photos.parquet")  # type: ignore[arg-type]
    assert found._replace(others=0) == expected._replace(others=0)
    assert (found.held_out is None) == (splits == "none")


def test_what_is_held_out_stays_so_though_a_table_tells_the_classes(tmp_path: Path) -> None:
    for table, settings in (("dataset.json", {}), ("metadata.csv", {"label_column": "kind"})):
        folder = unpack(tmp_path / table, labelled(*SPLIT, table=table, each=4))
        found = FolderData(root=folder, **settings).find_pictures()  # type: ignore[arg-type]
        assert found.held_out is not None
        assert [name for name, held in zip(found.names, found.held_out, strict=True) if held] == [f"val/0{n}.png" for n in range(4)]
        assert found.class_names == ("0", "1")


def test_samples_of_two_pictures_are_read_as_the_refusal_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    folder = unpack(tmp_path / "photos", TWO_EACH)
    archive = pack(folder, tmp_path / "photos.tar", "")
    for data in (FolderData(root=folder), ArchiveData(path=archive)):
        with pytest.raises(DataError) as caught:
            data.find_pictures()
        assert caught.value.remedy == "Say which: --set data.image_column=EXTENSION"  # unpacked, they are refused no less
        named_one = data.model_copy(update={"image_column": "a.png"})
        assert named_one.find_pictures().names == ["00.a.png", "01.a.png", "03.a.png"]


def test_loose_pictures_are_used_where_a_table_tells_their_class(tmp_path: Path) -> None:
    assert "loose.png" in FolderData(root=unpack(tmp_path / "with", LOOSE)).find_pictures().names
    del (files := dict(LOOSE))["dataset.json"]
    assert "loose.png" not in FolderData(root=unpack(tmp_path / "without", files)).find_pictures().names


@pytest.mark.parametrize("name", ["dataset.json", "00.cls", "metadata.csv"])
def test_one_that_is_gone_when_it_is_wanted_is_named(name: str, tmp_path: Path) -> None:
    """As on a network drive; a link that is followed to a file that nobody may read is the like."""
    folder = unpack(tmp_path / "photos", named("*.png") | {name: b""})
    with (
        patch("ddpm_cli.data.sources.folder.read_bytes", side_effect=FileNotFoundError(2, "No such file or directory")),
        pytest.raises(DataError, match=f"{name} in the folder .* cannot be read: No such file or directory"),
    ):
        FolderData(root=folder, label_column="kind" if name == "metadata.csv" else None).find_pictures()


def test_a_large_table_is_refused_and_a_large_mark_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(tables.MOST_BYTES, "table", 10)
    monkeypatch.setitem(tables.MOST_BYTES, "mark", 10)
    for name, reason in (("dataset.json", "dataset.json"), ("00.cls", "")):
        folder = unpack(tmp_path / name, named("*.png") | {name: b"1" + b" " * 10})
        archive = pack(folder, tmp_path / f"{name}.zip", "")
        for data in (FolderData(root=folder), ArchiveData(path=archive)):
            if reason:
                with pytest.raises(DataError, match=reason):
                    data.find_pictures()
            else:
                assert data.find_pictures().class_names == ()


def test_a_table_that_changes_is_seen(tmp_path: Path) -> None:
    folder = unpack(tmp_path / "photos", LOOSE)
    before = FolderData(root=folder).find_pictures()
    rows = json.loads(LOOSE["dataset.json"])["labels"]
    (folder / "dataset.json").write_text(json.dumps([[name, 1 - kind] for name, kind in rows]))
    after = FolderData(root=folder).find_pictures()
    assert before.fingerprint_now is not None
    assert before.fingerprint_now() != before.fingerprint
    assert (after.labels == 1 - before.labels).all()
