"""Pictures whose decoder takes too long or too much, or ends: stand-ins do so, for which no harmful file is needed."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from command import environment
from picture_files import mixed_picture, write_folder, write_picture
from PIL import Image

from ddpm_cli.core.io.files import UnreadableError
from ddpm_cli.core.threads import in_parallel
from ddpm_cli.data.cache.loading import load_pictures
from ddpm_cli.data.pictures import decode as picture
from ddpm_cli.data.pictures import decoders
from ddpm_cli.data.pictures.decoders import Decoders
from ddpm_cli.data.pictures.settings import PictureSettings
from ddpm_cli.data.sources.folder import UNSEEN_BYTES, read_file, scan_folder
from ddpm_cli.data.sources.one_picture import read_picture
from ddpm_cli.errors import DataError, DdpmError

STAND_IN = """
import os, sys, time
from ddpm_cli.data.pictures import decoder_process
from ddpm_cli.data.pictures import decode as picture
decode = picture.decode
def stand_in(content, shape, background):
    {what}
    return decode(content, shape, background)
picture.decode = stand_in
decoder_process.main()
"""
"""Decodes as ever, but for pictures that are 9 wide."""


def let_decoders(what: str, monkeypatch: pytest.MonkeyPatch, seconds: float = 1.0) -> None:
    code = STAND_IN.format(what=f"if picture.read_header(content).width == 9: {what}")
    monkeypatch.setattr(decoders, "COMMAND", (sys.executable, "-P", "-c", code))
    monkeypatch.setattr(decoders, "SECONDS", seconds)


def tiff(path: Path, width: int, value: int = 7) -> bytes:
    """A picture that is not decoded in this process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, 8), value).save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("time.sleep(100)", "takes longer than 1 s to decode"),
        ("os.abort()", r"brings its decoder down \(exit status -6\)"),
        ("bytearray(5 << 30)", "needs more than 4 GB to decode"),
        ("print('{}' * 9999, flush=True); os.write(1, b'x')", ""),
    ],
)
def test_a_picture_that_its_decoder_does_not_survive_is_named_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, reason: str
) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "cache"))
    let_decoders(what, monkeypatch)
    for number in range(5):
        tiff(tmp_path / "in" / f"{number}.tif", 10, 50 * number)
    tiff(tmp_path / "in" / "odd.tif", 9)
    started = time.monotonic()
    dataset = load_pictures(scan_folder(tmp_path / "in"), PictureSettings(size=(8, 8), held_out=0))
    assert time.monotonic() - started < 60
    assert dataset.unreadable == (("odd.tif",) if reason else ())
    assert sorted(dataset.train.images[:, 0, 0, 0].tolist()) == [0, *([] if reason else [7]), 50, 100, 150, 200]
    with Decoders() as reading:
        if reason:
            with pytest.raises(UnreadableError, match=reason):
                reading.decode((tmp_path / "in" / "odd.tif").read_bytes(), (1, 8, 8), "white")
        assert reading.decode((tmp_path / "in" / "3.tif").read_bytes(), (1, 8, 8), "white").max() == 150


def test_a_picture_that_a_person_names_is_bounded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_decoders("time.sleep(100)", monkeypatch, seconds=0.5)
    tiff(tmp_path / "odd.tif", 9)
    with pytest.raises(DataError, match=r"odd\.tif takes longer than 0\.5 s to decode"):
        read_picture(tmp_path / "odd.tif", (1, 8, 9))


def test_both_ways_to_decode_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [mixed_picture(seed)[1] for seed in range(48)]
    with picture.quiet_decoders(), Decoders() as reading:

        def all_of_it() -> list[object]:
            return [
                (
                    reading.read_header(c),
                    reading.read_whole(c),
                    reading.read_levels(c),
                    reading.decode(c, (3, 8, 8), "white").tobytes(),
                )
                for c in contents
            ]

        mixed = all_of_it()
        monkeypatch.setattr(decoders, "QUICK_BYTES", 0)
        assert all_of_it() == mixed
        monkeypatch.setattr(decoders, "QUICK_BYTES", 1 << 20)
        monkeypatch.setattr(decoders, "QUICK_STARTS", b"")
        assert all_of_it() == mixed


def test_what_is_decoded_in_this_process_is_small_and_of_few_scans() -> None:
    def encoded(form: str, side: int, **options: object) -> bytes:
        buffer = io.BytesIO()
        Image.effect_noise((side, side), 50).save(buffer, form, **options)
        return buffer.getvalue()

    asked: list[str] = []

    class Noting(Decoders):
        def _ask(self, content: bytes, what: str, *arguments: object) -> tuple[object, bytes]:
            asked.append(what)
            return None, bytes(64)

    reading = Noting()
    for content in (encoded("PNG", 900), encoded("JPEG", 99, progressive=True), encoded("GIF", 9), encoded("BMP", 9)):
        reading.decode(content, (1, 8, 8), "white")
    assert asked == []
    slow = [encoded("PNG", 1001), encoded("WEBP", 99), encoded("TIFF", 99), encoded("PNG", 9) + bytes(1_000_000)]
    slow.append(encoded("JPEG", 9) + b"\xff\xda" * 30)
    for content in slow:
        reading.decode(content, (1, 8, 8), "white")
    assert len(asked) == len(slow)


def test_threads_and_processes_share_one_budget_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two pictures that take more than half of it each, one waits for the other."""
    buffer = io.BytesIO()
    Image.new("1", (6000, 5000)).save(buffer, "PNG")
    asked: list[int] = []
    room_for, lock = picture.PixelBudget.room_for, threading.Lock()

    def counted(self: picture.PixelBudget, pixels: int) -> object:
        with lock:
            asked.append(pixels)
        return room_for(self, pixels)

    monkeypatch.setattr(picture.PixelBudget, "room_for", counted)
    with Decoders() as reading:
        results = list(in_parallel(lambda content: reading.decode(content, (1, 8, 8), "white").max(), [buffer.getvalue()] * 2))
    assert results == [0, 0]
    assert asked == [30_000_000] * 2
    assert decoders.IN_MEMORY.free == picture.MOST_PIXELS


def test_a_decoder_that_does_not_start_is_no_fault_of_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "COMMAND", (sys.executable, "-c", "raise SystemExit(3)"))
    with Decoders() as reading, pytest.raises(DdpmError, match="does not start"):
        reading.read_header(tiff(tmp_path / "a.tif", 8))


def test_ctrl_c_answers_while_a_picture_is_decoded(tmp_path: Path) -> None:
    for number in range(40):
        tiff(tmp_path / "in" / f"{number}.tif", 9)
    stand_in = STAND_IN.format(what="open('begun', 'w'); time.sleep(100)")
    code = (
        "import signal, sys, ddpm_cli.data.pictures.decoders as decoders\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        f"decoders.COMMAND = (sys.executable, '-P', '-c', {stand_in!r})\n"
        "from ddpm_cli.data.sources.folder import scan_folder\n"
        "from ddpm_cli.data.cache.loading import load_pictures\n"
        "from ddpm_cli.data.pictures.settings import PictureSettings\n"
        "load_pictures(scan_folder(__import__('pathlib').Path('in')), PictureSettings())\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment() | {"DDPM_CACHE": str(tmp_path / "cache")}, stderr=subprocess.PIPE
    ) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        interrupted = time.monotonic()
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read() if process.stderr else b""
    assert time.monotonic() - interrupted < 2
    assert b"KeyboardInterrupt" in errors
    assert not list((tmp_path / "cache").rglob("entry.json"))


# ------------------------------------------------------------------------------------------------------------------ size


@pytest.mark.usefixtures("cost")
def test_large_files_that_are_no_pictures_are_not_read(tmp_path: Path) -> None:
    starts = {
        "is no picture": b"",
        "more than the 16,778,752 that 192 pixels take": write_picture(tmp_path / "a.png", 1, (8, 24, 3)).read_bytes(),
        "more than the 216,777,216 that 25,000,000 pixels take": b"RIFF\0\0\0\0WEBP",
        "is damaged|is no picture": b"MM\0\x2a\xff\xff\xff\xf0",
        "header of more than 16,777,216 bytes": b"MM\0\x2a\0\0\0\x08\0\x01\x01\x11\0\x01\x30\0\0\0\0\0\0\x08",  # one tag of 768 MiB
    }
    for reason, start in starts.items():
        with (tmp_path / "large.png").open("wb") as file:
            file.write(start)
            file.truncate(1 << 30)
        with pytest.raises(UnreadableError, match=reason):
            read_file(tmp_path, "large.png")
    assert read_file(tmp_path, "a.png")


def test_a_large_file_that_its_pixels_need_is_read(tmp_path: Path) -> None:
    pixels = np.zeros((1500, 4000, 3), np.uint8)  # 18 MB
    for suffix in ("tif", "bmp"):
        Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
        assert len(read_file(tmp_path, f"a.{suffix}")) > UNSEEN_BYTES


def test_folders_in_folders_have_no_end_that_matters(tmp_path: Path) -> None:
    write_folder(tmp_path / "in", 2, ("a",))
    with chain(tmp_path / "in", ["b", *["d"] * 1100]):
        found = scan_folder(tmp_path / "in")
        assert len(found) == 3
        assert found.class_names == ("a", "b")
    with (
        chain(tmp_path / "too-deep", ["d" * 100] * 100),
        pytest.raises(DataError, match=r"too-deep holds folders in folders, \d\d deep, whose path is too long"),
    ):
        scan_folder(tmp_path / "too-deep")


@contextmanager
def chain(root: Path, names: list[str]) -> Iterator[None]:
    """Folders in one another with a picture in the last, removed at the end, because others' tools recurse into them."""
    root.mkdir(exist_ok=True)
    here = os.open(root, os.O_RDONLY)
    for name in names:  # by descriptors, because their path may be longer than a system takes
        os.mkdir(name, dir_fd=here)
        here = _moved(here, name)
    file = os.open("x.png", os.O_WRONLY | os.O_CREAT, dir_fd=here)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    os.write(file, buffer.getvalue())
    os.close(file)
    try:
        yield
    finally:
        os.unlink("x.png", dir_fd=here)
        for name in reversed(names):
            here = _moved(here, "..")
            os.rmdir(name, dir_fd=here)
        os.close(here)


def _moved(here: int, to: str) -> int:
    there = os.open(to, os.O_RDONLY, dir_fd=here)
    os.close(here)
    return there
