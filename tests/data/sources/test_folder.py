from __future__ import annotations

import os
from pathlib import Path

import pytest
from picture_files import write_folder, write_picture

from ddpm_cli.data.pictures.settings import printable
from ddpm_cli.data.placing.splits import Splits
from ddpm_cli.data.sources.folder import scan_folder
from ddpm_cli.errors import DataError


def test_a_flat_folder_has_no_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", 3)
    for name in ("UPPER.JPG", "notes.txt", ".hidden.png", "._000.png"):
        (tmp_path / "photos" / name).write_bytes(b"x")
    pictures = scan_folder(tmp_path / "photos")
    assert pictures.name == "photos"
    assert list(pictures.names) == ["000.png", "001.png", "002.png", "UPPER.JPG"]
    assert pictures.class_names == ()
    assert pictures.labels.tolist() == [0, 0, 0, 0]
    assert pictures.held_out is None
    assert pictures.ignored_files == 1
    assert pictures.notices == ()
    assert pictures.read(3) == b"x"


def test_subfolders_are_classes_with_all_below_them(tmp_path: Path) -> None:
    for name in ("dog/1.png", "cat/1.png", "cat/more/deep/2.png", "ant/1.png", ".git/1.png", "__MACOSX/1.png"):
        write_picture(tmp_path / name, 0)
    pictures = scan_folder(tmp_path)
    assert pictures.class_names == ("ant", "cat", "dog")
    assert list(pictures.names) == ["ant/1.png", "cat/1.png", "cat/more/deep/2.png", "dog/1.png"]
    assert pictures.labels.tolist() == [0, 1, 1, 2]


def test_loose_pictures_beside_classes_are_left_out_and_named(tmp_path: Path) -> None:
    write_folder(tmp_path, 4, ("a", "b"))
    write_picture(tmp_path / "loose.png", 9)
    pictures = scan_folder(tmp_path)
    assert "loose.png" not in pictures.names
    assert len(pictures) == 4
    assert len(pictures.notices) == 1
    assert "1 picture beside" in pictures.notices[0]
    assert "loose.png" in pictures.notices[0]


@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation"])
@pytest.mark.parametrize("classes", [("",), ("a", "b")])
def test_a_pair_of_folders_is_the_split(tmp_path: Path, held_out: str, classes: tuple[str, ...]) -> None:
    write_folder(tmp_path / "train", 4, classes)
    write_folder(tmp_path / held_out, 2, classes)
    pictures = scan_folder(tmp_path)
    assert pictures.class_names == (() if classes == ("",) else classes)
    assert pictures.held_out is not None
    assert [name for name, held in zip(pictures.names, pictures.held_out, strict=True) if held] == [
        name for name in pictures.names if name.startswith(f"{held_out}/")
    ]
    assert pictures.held_out.sum() == 2
    assert pictures.labels.tolist() == ([0] * 6 if classes == ("",) else [int("/b/" in name) for name in pictures.names])


@pytest.mark.parametrize(("splits", "names"), [("auto", ("train", "other")), ("none", ("train", "test", "val"))])
def test_other_folders_are_classes_whatever_their_names(tmp_path: Path, splits: Splits, names: tuple[str, ...]) -> None:
    write_folder(tmp_path, 6, names)
    pictures = scan_folder(tmp_path, splits)
    assert pictures.held_out is None
    assert pictures.class_names == tuple(sorted(names))


def test_what_was_recognised_is_said_and_pictures_for_testing_are_not_trained_on(tmp_path: Path) -> None:
    write_folder(tmp_path / "set" / "Train", 4, ("cat", "dog"))
    write_folder(tmp_path / "set" / "Val", 2, ("cat", "dog"))
    write_folder(tmp_path / "set" / "Test", 3)
    write_picture(tmp_path / "set" / "preview.png", 9)
    write_picture(tmp_path / "set" / "Train" / "loose.png", 9)
    pictures = scan_folder(tmp_path)
    assert pictures.layout == "set/Train/ to train on, set/Val/ held out"
    assert pictures.source == f"the folder {tmp_path} ({pictures.layout})"
    assert pictures.class_names == ("cat", "dog")
    assert pictures.held_out is not None
    assert (len(pictures), int(pictures.held_out.sum())) == (6, 2)
    assert "1 picture beside the class folders" in pictures.notices[0]
    assert "set/Test/ (3 pictures; set/Val/ is held out)" in pictures.notices[1]
    assert "1 picture outside of the folders" in pictures.notices[2]


@pytest.mark.parametrize("litter", ["@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", ".git"])
def test_what_systems_leave_in_folders_is_no_class(tmp_path: Path, litter: str) -> None:
    write_folder(tmp_path, 4, ("a", "b", litter))
    write_picture(tmp_path / "a" / litter / "thumb.png", 7)
    write_picture(tmp_path / "a" / "._000.png", 7)
    pictures = scan_folder(tmp_path)
    assert pictures.class_names == ("a", "b")
    assert list(pictures.names) == ["a/000.png", "a/003.png", "b/001.png"]


def test_one_class_folder_tells_nothing_apart(tmp_path: Path) -> None:
    write_folder(tmp_path, 4, ("only",))
    write_picture(tmp_path / "loose.png", 9)
    pictures = scan_folder(tmp_path)
    assert (pictures.class_names, len(pictures)) == ((), 5)


def test_links_that_lead_out_are_not_followed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 2)
    write_picture(tmp_path / "out" / "secret.png", 5)
    (root / "out.png").symlink_to(tmp_path / "out" / "secret.png")
    (root / "folder").symlink_to(tmp_path / "out")
    (root / "loop").symlink_to(root)
    (root / "gone.png").symlink_to(root / "nothing.png")
    (root / "own.png").symlink_to(root / "000.png")
    pictures = scan_folder(root)
    assert list(pictures.names) == ["000.png", "001.png", "own.png"]
    assert "4 links" in pictures.notices[0]
    for said in ("out.png (leads out of it)", "loop (leads to what is in it already)", "gone.png (leads nowhere)"):
        assert said in pictures.notices[0]
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "out.png").symlink_to(tmp_path / "out" / "secret.png")
    with pytest.raises(DataError, match=r"1 link is not followed: out\.png \(leads out of it\)") as caught:
        scan_folder(tmp_path / "links")
    assert "data.follow_links=true" in caught.value.remedy


def test_links_that_lead_out_are_followed_once_where_that_is_wanted(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "in", 2, ("a",))
    write_folder(tmp_path / "out", 2, ("x", "y"))
    (root / "b").symlink_to(tmp_path / "out" / "x")
    (root / "a" / "one.png").symlink_to(tmp_path / "out" / "y" / "001.png")
    (tmp_path / "out" / "x" / "loop").symlink_to(tmp_path / "out")  # to where one came from
    (root / "again").symlink_to(tmp_path / "out" / "x")
    (root / "up").symlink_to(tmp_path)  # holds the folder itself
    (root / "own").symlink_to(root / "a")
    pictures = scan_folder(root, follow_links=True)
    assert pictures.class_names == ("a", "again")
    assert "a/one.png" in pictures.names
    (notice,) = pictures.notices
    assert "b (leads where again does)" in notice
    assert "up (leads to a folder around it)" in notice
    assert all(pictures.read(number) for number in range(len(pictures)))


@pytest.mark.parametrize("follow_links", [False, True])
def test_links_that_lead_nowhere_are_called_so(tmp_path: Path, follow_links: bool) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").symlink_to(tmp_path / "gone" / f"{number}.png")
    with pytest.raises(DataError, match=r"no pictures .* 3 links are not followed: 0\.png \(leads nowhere\), 1") as caught:
        scan_folder(tmp_path, follow_links=follow_links)
    assert caught.value.remedy.startswith("Put back what links")
    assert "follow_links" not in caught.value.remedy


def test_links_that_leave_a_class_empty_are_told(tmp_path: Path) -> None:
    write_picture(tmp_path / "cat" / "0.png", 0)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "0.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"1 class folder without pictures, of 2: dog/\. .* dog/0\.png \(leads nowhere\)"):
        scan_folder(tmp_path)


def test_a_pipe_named_like_a_picture_does_not_hang(tmp_path: Path) -> None:
    write_folder(tmp_path, 1)
    os.mkfifo(tmp_path / "pipe.png")
    assert list(scan_folder(tmp_path).names) == ["000.png"]


def test_names_that_are_no_text_are_read_and_shown_escaped(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", 0)
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/\xff\x1b[31m.png")
    pictures = scan_folder(tmp_path)
    assert pictures.read(0)
    assert printable(pictures.names[0]) == "\\xff?[31m.png"


def test_fingerprint_changes_with_what_is_there(tmp_path: Path) -> None:
    write_folder(tmp_path, 2)
    seen = [scan_folder(tmp_path).fingerprint]
    assert scan_folder(tmp_path).fingerprint == seen[0]
    before = (tmp_path / "000.png").stat()
    (tmp_path / "000.png").write_bytes((tmp_path / "000.png").read_bytes()[::-1])
    os.utime(tmp_path / "000.png", ns=(before.st_atime_ns, before.st_mtime_ns))  # as some tools do
    seen.append(scan_folder(tmp_path).fingerprint)
    os.rename(tmp_path / "001.png", tmp_path / "002.png")
    seen.append(scan_folder(tmp_path).fingerprint)
    assert len(set(seen)) == 3


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((), "There are no pictures"),
        (("notes.txt",), "only 1 file of other kinds"),
        (("a/1.png", "b/notes.txt", "c/"), "2 class folders without pictures, of 3: b/, c/"),
        (("train/a/1.png", "test/a/1.png", "train/b/"), "1 class folder without pictures, of 2: train/b/"),
    ],
)
def test_what_makes_no_data_set_is_named(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir(parents=True) if name.endswith("/") else (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=reason) as caught:
        scan_folder(tmp_path)
    assert caught.value.remedy


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="does not exist"):
        scan_folder(tmp_path / "absent")
    with pytest.raises(DataError, match="is a file"):
        scan_folder(tmp_path / "file")
