"""Pictures in archives: the same images as in a folder, whatever packs them; one message for what makes no data set."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from archive_files import ARCHIVES, files_below, pack, write_tar, write_zip
from picture_files import write_folder

from ddpm_cli.build.data import build_dataset
from ddpm_cli.config.resolve.data_choice import data_flags
from ddpm_cli.config.resolve.loader import load_config
from ddpm_cli.config.schema.data import ArchiveData, FolderData
from ddpm_cli.data.archives import contents
from ddpm_cli.data.archives.collection import open_archive
from ddpm_cli.data.images import Dataset
from ddpm_cli.data.pictures.check import check_pictures
from ddpm_cli.data.pictures.survey import survey
from ddpm_cli.errors import DataError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))


def load(path: Path, **settings: object) -> Dataset:
    return build_dataset(load_config(flags=data_flags(str(path)), sets=[f"data.{k}={v}" for k, v in settings.items()]).config.data)


def pictures(count: int, *folders: str) -> dict[str, bytes]:
    from picture_files import write_picture

    found = {}
    for number in range(count):
        path = write_picture(Path("picture.png").absolute(), number)
        found[f"{folders[number % len(folders)] if folders else ''}{number:03}.png"] = path.read_bytes()
    return found


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ------------------------------------------------------------------------------------------------- as if it were a folder


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_gives_the_key_the_images_and_the_classes_of_its_folder(kind: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", 40, ("bag", "boot", "coat"))
    archive = pack(folder, kind, tmp_path)
    config = load_config(flags=data_flags(str(archive))).config.data
    assert isinstance(config, ArchiveData)
    assert survey(config.find_pictures()).content == survey(FolderData(root=folder).find_pictures()).content
    ours, theirs = load(archive), load(folder)
    assert (ours.sha256, ours.train.class_names) == (theirs.sha256, theirs.train.class_names)
    for one, other in ((ours.train, theirs.train), (ours.test, theirs.test)):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)
    entries = [path for path in (tmp_path / "cache/images").iterdir() if (path / "entry.json").is_file()]
    assert len(entries) == 1


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_folders_named_as_splits_are_told_from_classes(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    for number, split in enumerate(("train", "test", "val")):
        write_folder(folder / split, 8 + 2 * number, ("a", "b"))
    found = load(pack(folder, kind, tmp_path))
    assert (len(found.train), len(found.test), found.train.class_names) == (8, len(load(folder).test), ("a", "b"))


@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_a_second_start_neither_lists_nor_decodes(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(write_folder(tmp_path / "photos", 20, ("a", "b")), suffix, tmp_path)
    first = load(archive)
    for name in ("list_zip", "list_tar", "stream_tar", "read_member"):
        monkeypatch.setattr(f"ddpm_cli.data.archives.collection.{name}", None)
    assert load(archive).sha256 == first.sha256
    write_zip(archive, files_below(write_folder(tmp_path / "others", 20))) if suffix == "zip" else write_tar(archive, {})
    with pytest.raises(TypeError, match="not callable"):
        load(archive)


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "parquet"])
def test_data_check_names_what_is_damaged_and_shows_the_rest(suffix: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "photos", 12, ("a", "b"))
    (folder / "a/000.png").write_bytes((folder / "a/000.png").read_bytes()[:60])
    config = load_config(flags=data_flags(str(pack(folder, suffix, tmp_path)))).config.data
    assert isinstance(config, ArchiveData)
    report, images = check_pictures(config.find_pictures(), config.picture_settings(held_out=0.1), preview=True)
    assert (report.pictures, list(report.unreadable)) == (12, ["a/000.png"])
    assert images is not None
    assert len(images) == report.training.train_images


# ----------------------------------------------------------------------------------------------------- classes from tables


@pytest.mark.usefixtures("_here")
def test_dataset_json_says_the_classes_as_edm_and_stylegan_write_them(tmp_path: Path) -> None:
    files = pictures(12, "00000/", "00001/")
    labels = [[name, number % 3] for number, name in enumerate(files)]
    whole = json.dumps({"labels": [*labels, ["00000/gone.png", 1]]}).encode()
    found = load(write_zip(tmp_path / "edm.zip", files | {"dataset.json": whole}))
    assert found.train.class_names == ("0", "1", "2")
    assert any("dataset.json" in notice and "00000/gone.png" in notice for notice in found.notices)
    (tmp_path / "edm").mkdir()
    with zipfile.ZipFile(tmp_path / "edm.zip") as archive:
        archive.extractall(tmp_path / "edm")
    assert load(tmp_path / "edm").sha256 == found.sha256
    none = write_zip(tmp_path / "none.zip", files | {"dataset.json": b'{"labels": null}'})
    assert len(load(none).train.class_names) < 2  # the folders are numbers that the tool gave


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("labels", "reasons"),
    [
        ([["000.png", [0.5, 1.0]]], ["vector of 2 numbers"]),
        ([["000.png", 1]], ["3 pictures of 4", "no class in dataset.json", "001.png"]),
        ([["000.png"]], ["no list of pairs"]),
        ({"000.png": 1}, ["no list of pairs"]),
        ([[f"00{n}.png", 1.5] for n in range(4)], ["1.5", "no class"]),
    ],
)
def test_a_dataset_json_that_gives_no_class_to_each_is_refused(labels: object, reasons: list[str], tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "edm.zip", pictures(4) | {"dataset.json": json.dumps({"labels": labels}).encode()})
    with pytest.raises(DataError) as error:
        open_archive(archive)
    assert all(reason in str(error.value) for reason in reasons), error.value


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("pattern", [True, False])
def test_shards_of_webdataset_are_one_set(pattern: bool, tmp_path: Path) -> None:
    whole, shards = pictures(20), tmp_path / "shards"
    shards.mkdir()
    for shard in range(2):
        files = {}
        for number, (name, content) in enumerate(whole.items()):
            if number % 2 == shard:
                key = f"s{name[:3]}"
                files |= {f"{key}.png": content, f"{key}.cls": str(number % 4 // 2 * 7).encode(), f"{key}.mask.png": content}
                files[f"{key}.json"] = json.dumps({"kind": "ab"[number % 2]}).encode()
        write_tar(shards / f"shard-{shard:06}.tar", files)
    found = load(shards / "shard-{000000..000001}.tar" if pattern else shards)
    assert (len(found.train) + len(found.test), found.train.class_names) == (20, ("0", "7"))
    assert any("one picture of each sample" in notice for notice in found.notices)
    assert open_archive(shards, label_column="kind").class_names == ("a", "b")
    with pytest.raises(DataError, match="missing"):
        open_archive(shards / "shard-{000000..000002}.tar")


def shard(path: Path, *suffixes: str, samples: int = 6) -> Path:
    """A tar of samples, each with the same picture under all suffixes, and words beside it."""
    keys = dict(zip(map("s{}".format, range(samples)), pictures(samples).values(), strict=True))
    files = {f"{key}{suffix}": content for key, content in keys.items() for suffix in suffixes}
    return write_tar(path, files | {f"{key}.txt": b"words" for key in keys})


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("suffixes", "column", "taken"),
    [
        ((".png", ".mask.png"), None, {".png"}),
        ((".depth.map.png", ".JPG", ".seg_1.png"), None, {".JPG"}),
        ((".png", ".mask.png"), "mask.png", {".mask.png"}),
        ((".png", ".mask.png"), ".PNG", {".png"}),
        ((".png", ".jpg"), "jpg", {".jpg"}),
        ((".png", ".1.png"), None, {".png", ".1.png"}),  # no word
    ],
)
def test_what_lies_beside_the_pictures_of_samples_is_none(
    suffixes: tuple[str, ...], column: str | None, taken: set[str], tmp_path: Path
) -> None:
    found = open_archive(shard(tmp_path / "a.tar", *suffixes), image_column=column)
    assert {name[2:] for name in found.names} == taken
    assert len(found.names) == 6 * len(taken)
    beside = [notice for notice in found.notices if "one picture of each sample" in notice]
    assert [f"not {6 * (len(suffixes) - 1)} pictures beside them" in notice for notice in beside] == [True] * (taken != {*suffixes})


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("suffixes", "column", "words"),
    [
        ((".png", ".jpg", ".mask.png"), None, "such as s0 .jpg, .png, .mask.png.*there are 6 .jpg, 6 .png, 6 .mask.png"),
        ((".rgb.png", ".mask.png"), None, "there are 6 .mask.png, 6 .rgb.png"),
        ((".png", ".mask.png"), "jpg", 'has the extension "jpg", only 6 .png, 6 .mask.png'),
    ],
)
def test_samples_of_which_nothing_says_the_picture_are_refused(
    suffixes: tuple[str, ...], column: str | None, words: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        open_archive(shard(tmp_path / "a.tar", *suffixes), image_column=column)
    assert "--set data.image_column=" in caught.value.remedy
    assert ("unpack them" in caught.value.remedy) == (column is None)


@pytest.mark.usefixtures("_here")
def test_a_mask_without_its_picture_is_none_and_names_with_dots_or_in_a_plain_folder_are_pictures(tmp_path: Path) -> None:
    (content,) = pictures(1).values()
    lost = {"a.png": content, "a.mask.png": content, "b.mask.png": content, "c.v2.png": content}
    assert open_archive(write_tar(tmp_path / "lost.tar", lost)).names == ["a.png", "c.v2.png"]
    people = {f"{first}.{last}.png": content for first in ("Ann", "Bob") for last in ("Ash", "Bell", "Cole", "Dunn", "Eads")}
    assert len(open_archive(write_tar(tmp_path / "people.tar", people))) == 10
    assert len(open_archive(write_zip(tmp_path / "lost.zip", lost))) == 4  # which is no shard
    with zipfile.ZipFile(tmp_path / "lost.zip") as archive:
        archive.extractall(tmp_path / "lost")
    assert len(FolderData(root=tmp_path / "lost").find_pictures()) == 4


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("kind", ["tar", "zip", "folder"])
def test_other_pictures_of_the_same_samples_are_not_those_of_the_cache(kind: str, tmp_path: Path) -> None:
    contents = pictures(16).values()
    files = {f"s{number // 2}{'.mask' * (number % 2)}.png": content for number, content in enumerate(contents)}
    path = (write_tar if kind == "tar" else write_zip)(tmp_path / f"a.{kind}", files)
    if kind == "folder":
        with zipfile.ZipFile(path) as archive:
            archive.extractall(path := tmp_path / "a")
    first, second, third = (
        load(path, held_out=0, **named) for named in ({}, {"image_column": "mask.png"}, {"image_column": "png"})
    )
    assert [len(one.train) for one in (first, second, third)] == [8 if kind == "tar" else 16, 8, 8]
    assert len({first.sha256, second.sha256, third.sha256}) == (2 if kind == "tar" else 3)
    assert load(path, held_out=0).sha256 == first.sha256


@pytest.mark.usefixtures("_here")
def test_splits_are_heeded_beside_a_table_of_classes(tmp_path: Path) -> None:
    files = {
        f"{'val' if number % 4 == 0 else 'train'}/{name}": content for number, (name, content) in enumerate(pictures(8).items())
    }
    rows = [f"{name},{'ab'[number % 2]}" for number, name in enumerate(files)]
    files["metadata.csv"] = "\n".join(["file_name,kind", *rows]).encode()
    path = write_zip(tmp_path / "a.zip", files)
    for name, content in files.items():
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_bytes(content)
    for splits, held_out in (("auto", 2), ("none", None)):
        for config in (
            ArchiveData(path=path, splits=splits, label_column="kind"),
            FolderData(root=path.with_suffix(""), splits=splits, label_column="kind"),
        ):
            found = config.find_pictures()
            assert (None if found.held_out is None else found.held_out.sum()) == held_out
            assert found.class_names == ("a", "b")


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("table", ["metadata.csv", "metadata.jsonl"])
def test_a_column_of_a_metadata_table_says_the_classes(table: str, tmp_path: Path) -> None:
    files = pictures(12)
    rows = [{"file_name": name, "shade": str(number % 2), "text": "a, b"} for number, name in enumerate(files)]
    lines = ["file_name,shade,text", *(f'{row["file_name"]},{row["shade"]},"a, b"' for row in rows)]
    text = "\n".join(lines if table.endswith("csv") else map(json.dumps, rows)).encode()
    archive = write_zip(tmp_path / "set.zip", files | {table: text})
    found = load(archive, label_column="shade")
    assert found.train.class_names == ("0", "1")
    assert any("shade" in notice for notice in load(archive).notices)
    with pytest.raises(DataError, match="no column hue, only file_name"):
        load(archive, label_column="hue")
    (tmp_path / "set").mkdir()
    with zipfile.ZipFile(archive) as whole:
        whole.extractall(tmp_path / "set")
    assert load(tmp_path / "set", label_column="shade").sha256 == found.sha256
    assert load(tmp_path / "set", label_column="shade").train.class_names == ("0", "1")


@pytest.mark.usefixtures("_here")
def test_parquet_of_other_programs_has_a_column_of_bytes(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    files = pictures(12)
    columns = {"id": list(range(12)), "png": list(files.values()), "kind": ["ab"[number % 2] for number in range(12)]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "set.parquet", row_group_size=5)
    assert load(tmp_path / "set.parquet", label_column="kind").train.class_names == ("a", "b")
    assert load(tmp_path / "set.parquet").train.class_names == ()
    for text, reason in (("hue", "no column"), ("kind", "no class")):
        columns["kind"][3] = None  # type: ignore[call-overload]
        pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "bad.parquet")
        with pytest.raises(DataError, match=reason):
            open_archive(tmp_path / "bad.parquet", label_column=text)


@pytest.mark.usefixtures("_here")
def test_the_column_of_the_pictures_in_parquet_can_be_named(tmp_path: Path) -> None:
    import pyarrow.parquet

    contents = [*pictures(24).values()]
    path = tmp_path / "set.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"photo": contents[:12], "mask": contents[12:], "words": ["a"] * 12}), path)
    with pytest.raises(DataError, match=r"photo, mask; name one: --set data.image_column=COLUMN"):
        load(path)
    with pytest.raises(DataError, match='no column of pictures "words", only photo, mask'):
        load(path, image_column="words")
    first, second = load(path, image_column="photo"), load(path, image_column="mask")
    assert len(first.train) + len(first.test) == len(second.train) + len(second.test) == 12
    assert first.sha256 != second.sha256
    assert load(path, image_column="photo").sha256 == first.sha256


# -------------------------------------------------------------------------------------------------------------- bad input


def _refused(path: Path, *reasons: str) -> None:
    with pytest.raises(DataError) as error:
        open_archive(path)
    assert all(reason in str(error.value) for reason in (path.name, *reasons)), error.value
    assert error.value.remedy


@pytest.mark.usefixtures("_here")
def test_archives_that_make_no_data_set_are_refused_by_what_they_lack(tmp_path: Path) -> None:
    files = pictures(3)
    _refused(write_zip(tmp_path / "text.zip", {"a.txt": b"x", "b.txt": b"y"}), "no pictures", "2 files of other kinds")
    _refused(write_zip(tmp_path / "arrays.zip", {"x/train.npz": b"x"}), "arrays: x/train.npz")
    _refused(write_tar(tmp_path / "empty.tar", {}), "no pictures")
    whole = write_zip(tmp_path / "whole.zip", files).read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[:-30])
    _refused(tmp_path / "cut.zip", "cut off")
    encrypted = bytearray(whole)
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        encrypted[encrypted.find(magic) + flags] |= 1
    (tmp_path / "locked.zip").write_bytes(encrypted)
    _refused(tmp_path / "locked.zip", "password")
    gone = tmp_path / "gone.zip"
    with pytest.raises(DataError, match="no file"):
        open_archive(gone)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.zst"])
def test_a_tar_that_is_cut_off_or_damaged_is_refused_wherever_that_is(suffix: str, tmp_path: Path) -> None:
    plain = write_tar(tmp_path / "whole.tar", pictures(4)).read_bytes()
    end = len(plain.rstrip(b"\0")) // 512 * 512 + 512
    broken = bytearray(plain)
    broken[plain.find(b"002.png")] ^= 1
    for number, content in enumerate((plain[:end], plain[: end - 100], plain[:700], bytes(broken))):
        path = tmp_path / f"bad{number}.{suffix}"
        path.write_bytes(_packed(content, suffix))
        _refused(path)
    if suffix != "tar":
        packed = _packed(plain, suffix)
        (tmp_path / f"cut.{suffix}").write_bytes(packed[: len(packed) // 2])
        _refused(tmp_path / f"cut.{suffix}", "cut off")


def _packed(content: bytes, suffix: str) -> bytes:
    import gzip

    import zstandard

    if suffix == "tar":
        return content
    return gzip.compress(content) if suffix == "tar.gz" else zstandard.ZstdCompressor().compress(content)


@pytest.mark.usefixtures("_here")
def test_archives_that_unpack_to_far_more_than_they_are_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "SMALL_BYTES", 1 << 20)
    zeros = bytes(1 << 22)
    _refused(write_zip(tmp_path / "bomb.zip", {"a.png": zeros}, zipfile.ZIP_DEFLATED), "would unpack to")
    _refused(write_tar(tmp_path / "bomb.tar.gz", {"a.png": zeros}), "would unpack to")


@pytest.mark.usefixtures("_here")
def test_members_of_a_zip_that_share_bytes_are_refused(tmp_path: Path) -> None:
    whole = bytearray(write_zip(tmp_path / "whole.zip", pictures(2)).read_bytes())
    second = whole.find(b"PK\x01\x02", whole.find(b"PK\x01\x02") + 4)
    struct.pack_into("<L", whole, second + 42, 0)
    (tmp_path / "twins.zip").write_bytes(whole)
    _refused(tmp_path / "twins.zip", "within another member")


@pytest.mark.usefixtures("_here")
def test_a_picture_of_a_zip_is_no_larger_than_it_says_and_has_its_sum(tmp_path: Path) -> None:
    content = next(iter(pictures(1).values()))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content + bytes(10_000_000)) + packer.flush()
    for name, crc in (("larger", zlib.crc32(content)), ("other", 1)):
        body = packed if name == "larger" else content
        method = zipfile.ZIP_DEFLATED if name == "larger" else zipfile.ZIP_STORED
        local = struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, method, 0, 33, crc, len(body), len(content), 5, 0) + b"a.png" + body
        central = struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, method, 0, 33, crc, len(body), len(content), 5, 0, 0, 0, 0, 0, 0
        )
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central) + 5, len(local), 0)
        path = tmp_path / f"{name}.zip"
        path.write_bytes(local + central + b"a.png" + end)
        assert "do not match" in survey(open_archive(path)).broken[0]


@pytest.mark.usefixtures("_here")
def test_names_that_lead_out_links_devices_and_names_that_come_again_are_left_out_and_counted(tmp_path: Path) -> None:
    files = pictures(4)
    first = next(iter(files.values()))
    more = [tarfile.TarInfo(name) for name in ("link.png", "hard.png", "null.png", "pipe.png")]
    for member, kind in zip(more, (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE), strict=True):
        member.type, member.linkname = kind, "/etc/passwd"
    odd = files | {"../up.png": first, "/abs.png": first, "a/../../b.png": first, ".hidden.png": first, "./003.png": first}
    found = open_archive(write_tar(tmp_path / "odd.tar", odd, *more))
    assert list(found.names) == ["000.png", "001.png", "002.png", "003.png"]
    assert found.read(3) == first
    told = " ".join(found.notices)
    assert all(part in told for part in ("3 names that lead out of it", "2 links", "2 devices", "1 names that come again"))


@pytest.mark.usefixtures("_here")
def test_a_packed_tar_is_read_twice_and_never_backwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    opened = []
    original = gzip.GzipFile.__init__

    def counting(self: gzip.GzipFile, *about: object, **more: object) -> None:
        opened.append(self)
        original(self, *about, **more)  # type: ignore[arg-type]

    def no_rewind(self: gzip.GzipFile) -> None:
        raise AssertionError("read backwards")

    archive = write_tar(tmp_path / "set.tar.gz", pictures(40))
    monkeypatch.setattr(gzip.GzipFile, "__init__", counting)
    monkeypatch.setattr(gzip.GzipFile, "rewind", no_rewind)
    found = load(archive)
    assert len(found.train) + len(found.test) == 40
    assert len(opened) <= 4  # to list, to survey, to look for a bright picture, to decode


def test_what_a_data_set_of_bytes_lacks_is_said_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    _refused(tmp_path / "bad.parquet", "damaged or cut off")
    (tmp_path / "bad.tar").write_bytes(io.BytesIO(b"x" * 2000).getvalue())
    _refused(tmp_path / "bad.tar", "damaged or cut off")


@pytest.mark.usefixtures("_here")
def test_shards_keep_the_folders_that_they_do_not_share(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        write_tar(tmp_path / f"s-{number}.tar", pictures(6, f"{name}/"))
    assert load(tmp_path / "s-{0..1}.tar").train.class_names == ("cat", "dog")


@pytest.mark.usefixtures("_here")
def test_several_series_of_shards_or_parquet_files_are_not_mixed_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for name in ("train-000.tar", "train-001.tar", "val-000.tar"):
        write_tar(tmp_path / "shards" / name, pictures(4))
    with pytest.raises(DataError, match=r"2 series of shards: train-001\.tar, val-000\.tar"):
        open_archive(tmp_path / "shards")
    for number in range(2):
        (tmp_path / f"p-{number}.parquet").write_bytes(b"")
    with pytest.raises(DataError, match="stands for 2 parquet files, of which one can be read"):
        open_archive(tmp_path / "p-{0..1}.parquet")
