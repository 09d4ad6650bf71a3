from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from picture_files import write_folder, write_picture
from PIL import Image

from ddpm_cli.core.io import block_sums
from ddpm_cli.data.batches import place
from ddpm_cli.data.cache import loading, writing
from ddpm_cli.data.cache.entry import Entry
from ddpm_cli.data.cache.loading import load_pictures
from ddpm_cli.data.images import Dataset, images_sha256
from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.pictures.survey import Survey, survey
from ddpm_cli.data.sources.folder import scan_folder
from ddpm_cli.errors import DataError, OutputError, SaveFailedError
from ddpm_cli.results.events import DataProgress, Event, Notice


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images"


def load(root: Path, **settings: object) -> Dataset:
    return load_pictures(scan_folder(root), PictureSettings(**settings))


def pixels_of(path: Path) -> bytes:
    with Image.open(path) as image:
        return np.asarray(image).transpose(2, 0, 1).tobytes()


def sides(dataset: Dataset) -> tuple[set[bytes], set[bytes]]:
    """The pixels of the images to train on and of those held out."""
    return {image.tobytes() for image in dataset.train.images}, {image.tobytes() for image in dataset.test.images}


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(writing.Decoders, "decode", refuse)


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_decoding(monkeypatch)

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(loading, "survey", refuse)


def test_every_picture_is_there_once_with_its_class(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 40, ("a", "b"))
    dataset = load(root)
    train, test = sides(dataset)
    by_class = {label: {pixels_of(path) for path in (root / label).iterdir()} for label in "ab"}
    assert train | test == by_class["a"] | by_class["b"]
    assert len(dataset.train) + len(dataset.test) == 40
    assert not train & test
    for part in (dataset.train, dataset.test):
        assert part.class_names == ("a", "b")
        for image, label in zip(part.images, part.labels, strict=True):
            assert image.tobytes() in by_class["ab"[label]]
    assert dataset.image_shape == (3, 8, 8)
    assert dataset.sha256 == images_sha256(dataset.train.images)


def test_a_second_start_reads_nothing(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "in", 20, ("a", "b"))
    (root / "a" / "broken.png").write_bytes(b"no")
    first = load(root)
    forbid_reading(monkeypatch)
    second = load(root)
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.test.labels, second.test.labels)
    assert second.unreadable == first.unreadable == ("a/broken.png",)
    assert second.sha256 == first.sha256
    assert second.notices == first.notices


def test_a_touched_folder_and_a_copy_are_not_decoded_again(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "in", 10)
    first = load(root)
    forbid_decoding(monkeypatch)
    os.utime(root / "003.png", (1, 1))
    shutil.copytree(root, tmp_path / "copy")
    for again in (load(root), load(tmp_path / "copy")):
        np.testing.assert_array_equal(first.train.images, again.train.images)


def test_a_changed_file_and_other_settings_are_decoded(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "in", 10)
    first = load(root)
    write_picture(root / "003.png", 99)
    changed = load(root)
    assert pixels_of(root / "003.png") in set.union(*sides(changed))
    assert changed.sha256 != first.sha256 or len(changed.test) != len(first.test)
    assert load(root, size=(4, 6)).image_shape == (3, 4, 6)
    assert load(root, channels=1).image_shape == (1, 8, 8)
    assert len(load(root, held_out=0.0).test) == 0
    assert len(list(cache.glob("*/entry.json"))) == 5


def test_images_are_mapped_and_writing_to_them_stays_private(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 10)
    dataset = load(root)
    assert isinstance(dataset.train.images, np.memmap)
    tensor = place(dataset.train.images, torch.device("cpu"))
    assert tensor.data_ptr() == dataset.train.images.ctypes.data  # no copy
    before = images_sha256(dataset.train.images)
    tensor.zero_()
    assert images_sha256(load(root).train.images) == before


def test_progress_goes_from_one_to_all(cache: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    load_pictures(scan_folder(write_folder(tmp_path / "in", 40)), PictureSettings(), events.append)
    for what in ("reading pictures", "decoding pictures"):
        steps = [event for event in events if isinstance(event, DataProgress) and event.what == what]
        assert [event.done for event in steps] == list(range(1, 41))
        assert {event.total for event in steps} == {40}


# --------------------------------------------------------------------------------------------------------------- split


def with_twins(root: Path, count: int) -> Path:
    """Each picture as PNG and as BMP: other bytes, the same pixels."""
    for path in sorted(write_folder(root, count).iterdir()):
        with Image.open(path) as image:
            image.save(path.with_suffix(".bmp"))
    return root


def test_equal_pixels_in_different_files_are_on_one_side(cache: Path, tmp_path: Path) -> None:
    dataset = load(with_twins(tmp_path / "in", 40), held_out=0.3)
    train, test = sides(dataset)
    assert not train & test
    assert len(train | test) == 40
    assert dataset.sha256 == images_sha256(dataset.train.images)
    gone = 80 - len(dataset.train) - len(dataset.test)
    assert gone > 0
    assert dataset.notices == (f"Left out {gone} pictures with the same pixels as others on the other side of the held-out split.",)
    assert load(tmp_path / "in", held_out=0.3).notices == dataset.notices  # from the cache


def test_one_picture_in_several_files_cannot_be_held_out(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only 2 copies of one image"):
        load(with_twins(tmp_path / "in", 1))


def test_pixels_on_both_sides_of_a_split_of_ones_own_are_told(cache: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "train", 6)
    write_folder(tmp_path / "test", 2)
    dataset = load(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (6, 2)
    assert "2 held-out images have the same pixels as images to train on" in dataset.notices[0]


def test_older_entries_are_read(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 10)
    first = load(root)
    (path,) = cache.glob("*/entry.json")
    values = json.loads(path.read_text())
    del values["repeats"]
    path.write_text(json.dumps(values))
    inode = (path.parent / "images.u8").stat().st_ino
    assert load(root).sha256 == first.sha256
    assert (path.parent / "images.u8").stat().st_ino == inode  # it was not written again


def test_adding_pictures_moves_none_and_the_share_is_about_right(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 200, shape=(4, 4, 3))
    train, test = sides(load(root, held_out=0.2))
    assert 15 <= len(test) <= 70  # 200 draws of 0.2; outside in one folder of 10**5
    for number in range(200, 240):
        write_picture(root / f"more-{number}.png", number, (4, 4, 3))
    more_train, more_test = sides(load(root, held_out=0.2))
    assert train < more_train
    assert test < more_test


def test_copies_land_on_one_side(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 30, shape=(4, 4, 3))
    for number in range(30):
        shutil.copy(root / f"{number:03}.png", root / f"copy-{number}.png")
    dataset = load(root, held_out=0.5)
    train, test = sides(dataset)
    assert not train & test
    assert len(dataset.train) == 2 * len(train)
    assert len(dataset.test) == 2 * len(test)


@pytest.mark.parametrize("share", [1e-9, 1 - 1e-9])
def test_each_side_has_at_least_one(cache: Path, tmp_path: Path, share: float) -> None:
    root = write_folder(tmp_path / "in", 6)
    dataset = load(root, held_out=share)
    assert sorted([len(dataset.train), len(dataset.test)]) == [1, 5]


def test_one_picture_trains_if_none_is_held_out(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 1)
    dataset = load(root, held_out=0.0)
    assert (len(dataset.train), len(dataset.test)) == (1, 0)
    with pytest.raises(DataError, match="only one image") as caught:
        load(root)
    assert "data.held_out=0" in caught.value.remedy
    shutil.copy(root / "000.png", root / "001.png")
    with pytest.raises(DataError, match="There are only 2 copies of one image"):
        load(root)


def test_a_split_that_is_given_is_kept(cache: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "in" / "train", 6)
    for number in range(3):
        write_picture(tmp_path / "in" / "test" / f"{number}.png", 100 + number)
    dataset = load(tmp_path / "in")
    assert [len(dataset.train), len(dataset.test)] == [6, 3]
    assert sides(dataset)[1] == {pixels_of(path) for path in (tmp_path / "in" / "test").iterdir()}


def test_a_prefix_is_mixed_by_class(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 120, ("a", "b"), (4, 4, 3))
    assert 15 <= load(root).train.labels[:60].sum() <= 45  # 60 fair draws; outside once in 10**4


# ----------------------------------------------------------------------------------------------------------- unreadable


def test_files_that_are_damaged_far_in_leave_no_gap(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 40)
    for number in range(0, 40, 4):
        path = root / f"{number:03}.png"
        path.write_bytes(path.read_bytes()[:-30])  # the header is whole
    dataset = load(root)
    assert dataset.unreadable == tuple(f"{number:03}.png" for number in range(0, 40, 4))
    assert set.union(*sides(dataset)) == {pixels_of(root / f"{n:03}.png") for n in range(40) if n % 4}
    assert dataset.sha256 == images_sha256(dataset.train.images)
    assert "10 pictures" in dataset.notices[0]
    assert f"ddpm data check {root}" in dataset.notices[0]


def test_a_damaged_picture_of_another_kind_does_not_make_a_folder_mixed(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 6)
    path = write_picture(root / "grey.png", 7, (9, 9))
    path.write_bytes(path.read_bytes()[:-30])
    assert load(root).image_shape == (3, 8, 8)


def test_strict_names_all(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 6)
    for number in range(8):
        (root / f"broken-{number}.png").write_bytes(b"no")
    with pytest.raises(DataError) as caught:
        load(root, strict=True)
    assert all(f"broken-{number}.png" in caught.value.message for number in range(8))


# ------------------------------------------------------------------------------------------------------------- refusals


def test_several_sizes_need_one(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 4, shape=(20, 30, 3))
    write_picture(root / "big.png", 9, (40, 50, 3))
    with pytest.raises(DataError, match=r"2 sizes, height x width: 20x30 \(4\), 40x50 \(1\)") as caught:
        load(root)
    assert "--size 16" in caught.value.remedy
    assert load(root, size=(16, 24)).image_shape == (3, 16, 24)


def test_mixed_channels_need_a_word(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 4)
    write_picture(root / "grey.png", 9, (8, 8))
    with pytest.raises(DataError, match=r"1 are grey and 4 are colour; the rarer ones: grey\.png") as caught:
        load(root)
    assert "--set data.channels=3" in caught.value.remedy
    assert load(root, channels=3).image_shape == (3, 8, 8)


def test_other_names_of_classes_are_another_entry(cache: Path, tmp_path: Path) -> None:
    pictures = scan_folder(write_folder(tmp_path / "in", 10, ("a", "b")))
    load_pictures(pictures, PictureSettings())
    renamed = load_pictures(replace(pictures, class_names=("cat", "dog")), PictureSettings())
    assert renamed.train.class_names == ("cat", "dog")


def test_small_pictures(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 10, shape=(20, 20, 3))
    write_picture(root / "low.png", 9, (15, 40, 3))
    with pytest.raises(DataError, match=r"1 of 11 pictures .* smaller than 18x18: low\.png \(15x40\)") as caught:
        load(root, size=(18, 18))
    assert all(word in caught.value.remedy for word in ("--size", "data.small=skip", "data.small=enlarge"))
    skipped = load(root, size=(18, 18), small="skip")
    assert len(skipped.train) + len(skipped.test) == 10
    assert any("Left out 1 picture smaller than 18x18" in notice for notice in skipped.notices)
    enlarged = load(root, size=(18, 18), small="enlarge")
    assert len(enlarged.train) + len(enlarged.test) == 11
    with pytest.raises(DataError, match="11 of 11"):
        load(root, size=(64, 64), small="skip")


def test_all_unreadable(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        (tmp_path / "in" / f"{number}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"Of 5 pictures .* none can be read: 0\.png is empty, .* and 2 more"):
        load(tmp_path / "in")
    assert list(cache.glob("*/entry.json")) == []


def test_a_class_whose_pictures_are_all_broken_is_named(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 6, ("a", "b"))
    (root / "c").mkdir()
    (root / "c" / "1.png").write_bytes(b"no")
    with pytest.raises(DataError, match="no pictures to use of the class c"):
        load(root)


# --------------------------------------------------------------------------------------------------------- whole or not


def test_an_error_halfway_leaves_nothing(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "in", 10)
    with monkeypatch.context() as patch:

        def full(*arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(writing.os, "pwrite", full)
        with pytest.raises(OutputError, match="the disk is full"):
            load(root)
    assert [path for path in cache.iterdir() if path.is_dir()] == [cache / "fingerprints"]
    assert len(load(root).train) > 0


def test_a_disk_without_inodes_is_one_message(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "in", 10)

    def full(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writing.tempfile, "mkdtemp", full)
    with pytest.raises(SaveFailedError, match="the disk is full") as raised:
        load(root)
    assert ".ddpm-tmp-" not in raised.value.message


def test_too_little_space_is_said_before(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "in", 10)
    forbid_decoding(monkeypatch)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(OutputError, match="10 images") as caught:
        load(root)
    assert "DDPM_CACHE" in caught.value.remedy


def test_what_a_killed_process_left_is_removed_and_never_read(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 10)
    whole = load(root)
    (entry,) = cache.glob("*/entry.json")
    leftover = cache / f".ddpm-tmp-{entry.parent.name}-killed"
    entry.parent.rename(leftover)
    (leftover / "entry.json").unlink()
    again = load(root)
    np.testing.assert_array_equal(whole.train.images, again.train.images)
    assert not leftover.exists()


def bit_flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 8]) + content[place + 1 :]


def without_sums(content: bytes) -> bytes:
    """An entry as the version before wrote it."""
    values = json.loads(content)
    for key in ("pixel_sums", "labels_sha256", "seal"):
        del values[key]
    return json.dumps(values | {"version": 1}).encode()


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "a bit of a pixel": ("images.u8", lambda content: bit_flipped(content, 700), "images.u8 does not match its sums in 1 of 1"),
    "all pixels inverted": ("images.u8", lambda content: bytes(255 - byte for byte in content), "images.u8 does not match"),
    "two images exchanged": ("images.u8", lambda content: content[192:384] + content[:192] + content[384:], "images.u8 does not"),
    "pixels cut": ("images.u8", lambda content: content[:100], "images.u8 has 100 bytes, not 1,920"),
    "a bit of a label": ("labels.npy", lambda content: bit_flipped(content, len(content) - 8), "labels.npy does not match its sum"),
    "more held out": (
        "entry.json",
        lambda content: content.replace(b'"held_out": ', b'"held_out": 1'),
        "entry.json does not match",
    ),
    "other sums": ("entry.json", lambda content: content.replace(b'"pixel_sums": "', b'"pixel_sums": "0'), "entry.json does not"),
    "nonsense": ("entry.json", lambda content: b'{"version": 2, "shape": 3}', "entry.json does not describe an entry"),
    "no entry": ("entry.json", lambda content: b"", "entry.json is not valid JSON"),
    "no sums": ("entry.json", without_sums, "entry.json was written by another version of ddpm"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_told_of_and_made_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    root = write_folder(tmp_path / "in", 10, ("a", "b"))
    whole = load(root)
    images = np.array(whole.train.images)  # a copy: what is mapped changes with the file
    (entry,) = cache.glob("*/entry.json")
    good = {path: path.read_bytes() for path in entry.parent.iterdir()}
    name, change, reason = DAMAGES[damage]
    changed = change(good[entry.parent / name])
    assert changed != good[entry.parent / name]
    (entry.parent / name).write_bytes(changed)

    events: list[Event] = []
    again = load_pictures(scan_folder(root), PictureSettings(), events.append)
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert f"the folder {root} are not used, its pictures are decoded again: in {entry.parent}, {reason}" in notice.message
    assert notice.important
    np.testing.assert_array_equal(again.train.images, images)
    np.testing.assert_array_equal(again.train.labels, whole.train.labels)
    assert again.sha256 == whole.sha256 == images_sha256(again.train.images)
    assert {path: path.read_bytes() for path in entry.parent.iterdir()} == good
    forbid_reading(monkeypatch)
    load(root)


def test_damage_is_told_of_where_the_fingerprint_is_not_known(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 10)
    load(root)
    (pixels,) = cache.glob("*/images.u8")
    pixels.write_bytes(bit_flipped(pixels.read_bytes(), 5))
    os.utime(root / "003.png", (1, 1))
    events: list[Event] = []
    load_pictures(scan_folder(root), PictureSettings(), events.append)
    assert len([event for event in events if isinstance(event, Notice)]) == 1


def test_a_damaged_fingerprint_leads_to_no_other_entry(cache: Path, tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 10)
    whole = load(root)
    (remembered,) = (cache / "fingerprints").iterdir()
    content = remembered.read_text()
    remembered.write_text(content[:-1] + ("0" if content[-1] != "0" else "1"))
    assert load(root).sha256 == whole.sha256
    assert remembered.read_text() == content
    assert len(list(cache.glob("*/entry.json"))) == 1


def test_a_flipped_bit_of_a_large_cache_is_found_in_its_block(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_sums, "BLOCK_BYTES", 100)
    root = write_folder(tmp_path / "in", 10)
    events: list[Event] = []
    load(root)
    (pixels,) = cache.glob("*/images.u8")
    pixels.write_bytes(bit_flipped(pixels.read_bytes(), 1919))
    load_pictures(scan_folder(root), PictureSettings(), events.append)
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert "in 1 of 20 blocks" in notice.message
    checked = [event for event in events if isinstance(event, DataProgress) and event.what == "checking the image cache"]
    assert [event.done for event in checked] == list(range(1, 21))


# ------------------------------------------------------------------------------------------------- pictures that change


def after_the_survey(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    def surveyed(*arguments: Any, **options: Any) -> Survey:
        found = survey(*arguments, **options)
        change()
        return found

    monkeypatch.setattr(loading, "survey", surveyed)


def test_a_picture_that_changes_before_it_is_decoded_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "in", 10)
    before = (root / "003.png").read_bytes()
    with monkeypatch.context() as patch:
        after_the_survey(patch, lambda: write_picture(root / "003.png", 99))
        with pytest.raises(DataError, match=r"003\.png in the folder .* was changed while it was read"):
            load(root)
    assert list(cache.glob("*/entry.json")) == []
    assert list((cache / "fingerprints").iterdir()) == []
    (root / "003.png").write_bytes(before)
    assert pixels_of(root / "003.png") in set.union(*sides(load(root)))


def test_a_picture_that_goes_before_it_is_decoded_is_not_called_unreadable_for_ever(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "in", 10)
    with monkeypatch.context() as patch:
        after_the_survey(patch, lambda: (root / "003.png").rename(tmp_path / "away.png"))
        with pytest.raises(DataError, match=r"003\.png .* now cannot be \(No such file or directory\)"):
            load(root)
    (tmp_path / "away.png").rename(root / "003.png")
    assert load(root).unreadable == ()


def test_a_picture_that_changes_after_it_was_decoded_is_seen_at_the_next_start(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "in", 10)
    old = pixels_of(root / "003.png")
    build = loading.build_entry
    events: list[Event] = []

    def built(*arguments: Any) -> Entry:
        entry = build(*arguments)
        write_picture(root / "003.png", 99)
        return entry

    with monkeypatch.context() as patch:
        patch.setattr(loading, "build_entry", built)
        assert old in set.union(*sides(load_pictures(scan_folder(root), PictureSettings(), events.append)))
    assert any(isinstance(event, Notice) and "changed while they were read" in event.message for event in events)
    assert pixels_of(root / "003.png") in set.union(*sides(load(root)))


def test_two_at_once_make_one_entry(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_folder(tmp_path / "in", 30)
    built: list[Path] = []
    build = loading.build_entry

    def counted(folder: Path, *arguments: object) -> Entry:
        built.append(folder)
        return build(folder, *arguments)

    monkeypatch.setattr(loading, "build_entry", counted)
    monkeypatch.setattr(writing, "quiet_decoders", writing.contextlib.nullcontext)  # not for use within threads
    results: list[Dataset] = []
    threads = [threading.Thread(target=lambda: results.append(load(root))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert len(results) == 3
    assert len({images_sha256(dataset.train.images) for dataset in results}) == 1


def test_without_locks_the_second_to_finish_takes_the_first_ones(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "in", 10)

    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    publish = writing.publish

    def overtaken(temporary: Path, folder: Path) -> None:
        shutil.copytree(temporary, folder)  # what another process has just finished
        publish(temporary, folder)

    monkeypatch.setattr(writing, "publish", overtaken)
    assert len(load(root).train) > 0
    assert not list(cache.glob(".ddpm-tmp-*"))
