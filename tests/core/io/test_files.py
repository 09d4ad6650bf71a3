from __future__ import annotations

import errno
import json
import os
import re
import resource
import stat
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddpm_cli.core.io import files, temporaries
from ddpm_cli.core.io.files import (
    UnreadableError,
    adding_files,
    atomic_write,
    new_folder,
    read_json_object,
    read_text,
    replacing,
    require_writable_folder,
    require_writable_parent,
    sweep_temporaries,
    to_json,
)
from ddpm_cli.core.io.temporaries import TEMPORARY_PREFIX
from ddpm_cli.errors import OutputError, SaveFailedError


def test_atomic_write_creates_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    atomic_write(path, "é")
    assert path.read_bytes() == "é".encode()
    atomic_write(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_file_mode_follows_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        atomic_write(tmp_path / "a", "x")
    finally:
        os.umask(old)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_error_in_the_block_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def half_written() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            assert temporary.suffix == ".txt"
            assert temporary.parent == tmp_path
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_written()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_link_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "link").symlink_to(target)
    atomic_write(tmp_path / "link", "new")
    assert target.read_text() == "precious"
    assert (tmp_path / "link").read_text() == "new"


@pytest.mark.parametrize("function", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_each_failing_call_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: int, reason: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(OutputError, match=reason) as raised:
            atomic_write(path, "new")
    assert str(path) in raised.value.message
    assert raised.value.remedy
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_no_room_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match="largest size"):
            atomic_write(path, b"x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_missing_folder_and_folder_as_target(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        atomic_write(tmp_path / "none" / "a", "x")
    with pytest.raises(OutputError, match="Cannot write"):
        atomic_write(tmp_path, "x")
    assert os.listdir(tmp_path) == []


class TestRequireWritableParent:
    def test_accepts_new_and_existing_files(self, tmp_path: Path) -> None:
        (tmp_path / "old").touch()
        require_writable_parent(tmp_path / "old")
        require_writable_parent(tmp_path / "new")
        assert os.listdir(tmp_path) == ["old"]

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("none/a.png", "folder does not exist"),
            ("file/a.png", "is a file"),
            ("folder", "it is a folder"),
            ("pipe", "device or a pipe"),
            ("n" * 300, "too long"),
        ],
    )
    def test_refuses(self, tmp_path: Path, name: str, reason: str) -> None:
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OutputError, match=reason):
            require_writable_parent(tmp_path / name)

    def test_refuses_a_folder_without_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)  # chmod would not stop root
        with pytest.raises(OutputError, match="permission denied"):
            require_writable_parent(tmp_path / "a")

    def test_refuses_a_read_only_file_system(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        class ReadOnly:
            f_flag = os.ST_RDONLY

        monkeypatch.setattr(os, "statvfs", lambda _: ReadOnly)
        with pytest.raises(OutputError, match="read-only"):
            require_writable_parent(tmp_path / "a")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and /sys")
@pytest.mark.parametrize("path", ["/proc/runs", "/sys/runs", "/proc"])
def test_folders_that_take_no_files_are_found_out(path: str) -> None:
    with pytest.raises(OutputError, match=r"takes no files|permission denied|read-only"):
        require_writable_folder(Path(path))


def test_a_file_system_that_does_not_count_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "holds_nothing", lambda folder: True)
    require_writable_folder(tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


def test_sweep_removes_leftovers_only(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    folder = tmp_path / "folder"
    (folder / f"{TEMPORARY_PREFIX}1" / "deep").mkdir(parents=True)
    (folder / f"{TEMPORARY_PREFIX}2").touch()
    (folder / f"{TEMPORARY_PREFIX}3").symlink_to(outside)
    (folder / "kept").touch()
    assert len(sweep_temporaries(folder)) == 3
    assert os.listdir(folder) == ["kept"]
    assert (outside / "precious").exists()
    assert sweep_temporaries(tmp_path / "none") == []


def test_write_all_continues_after_a_short_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:7])))
    atomic_write(tmp_path / "a", b"0123456789" * 5)
    assert (tmp_path / "a").read_bytes() == b"0123456789" * 5


def test_folder_that_cannot_be_synced_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse_folders(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "folder")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    atomic_write(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "x"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 9_000_000, "nested too deeply"),
        (b'{"a":' * 1_000_000, "nested too deeply"),
        (b" " * (files.JSON_LIMIT + 1), "larger than"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"{", "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[1]", "not a JSON object"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{len(value)}-bytes",
)
def test_hostile_json_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UnreadableError, match=reason):
        read_json_object(tmp_path / "a.json")


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")  # opening it for reading would wait for a writer
    for name, reason in (("link", "symbolic link"), ("pipe", "ordinary"), ("none", "missing"), (".", "ordinary")):
        with pytest.raises(UnreadableError, match=reason):
            read_text(tmp_path / name)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats()))
def test_floats_keep_every_bit_through_json(values: list[float]) -> None:
    again = json.loads(to_json({"values": values}))["values"]
    # NaN has many bit patterns, of which one is kept.
    bits = [struct.pack("<d", value) if value == value else b"nan" for value in values]
    assert [struct.pack("<d", value) if value == value else b"nan" for value in again] == bits


def test_json_too_large_to_be_read_again_is_not_written() -> None:
    with pytest.raises(ValueError, match="exceed"):
        to_json("x" * files.JSON_LIMIT)


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, ddpm_cli.core.io.files, ddpm_cli.runs.lock, ddpm_cli.runs.directory, ddpm_cli.runs.metrics_log\n"
        "import ddpm_cli.runs.checkpoints\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def leave_and_die(code: str, folder: Path) -> list[str]:
    """What a process leaves in the folder that is killed inside a block which writes there."""
    kill = "os.kill(os.getpid(), 9)"
    program = f"import os\nfrom pathlib import Path\nfrom ddpm_cli.core.io.files import *\n{code}{kill}\n"
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, check=False)
    assert done.returncode == -9
    return sorted(os.listdir(folder))


class TestAbandonedTemporaries:
    @pytest.fixture(autouse=True)
    def _list_folders_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(temporaries, "own_temporaries", temporaries.own_temporaries.__wrapped__)

    def test_the_next_writer_of_the_same_file_removes_what_a_killed_one_left(self, tmp_path: Path) -> None:
        left = leave_and_die("with replacing(Path('a.png')) as t:\n    t.write_text('half')\n    ", tmp_path)
        assert len(left) == 1
        atomic_write(tmp_path / "b.png", "another file")
        assert set(left) < set(os.listdir(tmp_path))
        atomic_write(tmp_path / "a.png", "whole")
        assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]

    def test_likewise_a_folder(self, tmp_path: Path) -> None:
        left = leave_and_die("with new_folder(Path('a')) as t:\n    (t / 'x').write_text('half')\n    ", tmp_path)
        assert len(left) == 1
        with new_folder(tmp_path / "a") as folder:
            (folder / "x").write_text("whole")
        assert os.listdir(tmp_path) == ["a"]

    def test_one_that_is_being_written_stays(self, tmp_path: Path) -> None:
        with replacing(tmp_path / "a") as outer:
            outer.write_text("outer")
            running = subprocess.Popen(["sleep", "60"])
            try:
                other = tmp_path / temporaries.temporary_path(Path("a")).name.replace(f"-{os.getpid()}-", f"-{running.pid}-")
                other.write_text("at work")
                atomic_write(tmp_path / "a", "inner")
                assert outer.exists()
                assert other.exists()
            finally:
                running.kill()
                running.wait()
            atomic_write(tmp_path / "a", "inner")
            assert not other.exists()

    @pytest.mark.parametrize("read", [str.upper, lambda _: (_ for _ in ()).throw(OSError)], ids=["elsewhere", "unknown"])
    def test_one_of_another_machine_container_or_boot_stays(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[str], str]
    ) -> None:
        (left,) = leave_and_die("with replacing(Path('a')) as t:\n    t.write_text('half')\n    ", tmp_path)
        real = os.readlink
        monkeypatch.setattr(os, "readlink", lambda path, **_: read(real(path)))
        monkeypatch.setattr(temporaries, "process_space", temporaries.process_space.__wrapped__)
        atomic_write(tmp_path / "a", "whole")
        assert sorted(os.listdir(tmp_path)) == [left, "a"]


class TestAddingFiles:
    def fill(self, folder: Path, *, fail: bool = False) -> None:
        with adding_files(folder) as temporary:
            atomic_write(temporary / "first", "new")
            if fail:
                raise OSError(errno.ENOSPC, "full")
            atomic_write(temporary / "second", "new")

    @pytest.mark.parametrize("there", [False, True])
    def test_all_or_none(self, tmp_path: Path, there: bool) -> None:
        folder = tmp_path / "folder"
        if there:
            folder.mkdir()
            (folder / "first").write_text("old")
        with pytest.raises(SaveFailedError, match=re.escape(f"Cannot write {folder}: the disk is full")):
            self.fill(folder, fail=True)
        assert [path.name for path in tmp_path.rglob("*")] == (["folder", "first"] if there else [])
        self.fill(folder)
        assert {path.name: path.read_text() for path in folder.iterdir()} == {"first": "new", "second": "new"}
        assert os.listdir(tmp_path) == ["folder"]


def test_an_error_within_is_told_by_the_name_that_the_user_gave(tmp_path: Path) -> None:
    def write() -> None:
        with replacing(tmp_path / "model") as temporary:
            atomic_write(temporary, "x")
            atomic_write(temporary, "twice, which a new file does not allow")

    with pytest.raises(SaveFailedError) as raised:
        write()
    assert raised.value.message.startswith(f"Cannot write {tmp_path / 'model'}: ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "kind", "status"),
    [(errno.ENOSPC, SaveFailedError, 1), (errno.EIO, SaveFailedError, 1), (errno.ENOENT, OutputError, 2)],
)
def test_a_disk_that_failed_is_no_wrong_request(tmp_path: Path, number: int, kind: type[OutputError], status: int) -> None:
    with pytest.raises(OutputError) as raised, files.output_errors(tmp_path / "a"):
        raise OSError(number, "reason")
    assert type(raised.value) is kind
    assert raised.value.exit_status == status


def test_a_disk_without_inodes_is_told_from_one_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk:
        f_files, f_favail, f_blocks, f_bavail = 1000, 0, 1000, 900

    monkeypatch.setattr(os, "statvfs", lambda _: Disk)
    with pytest.raises(SaveFailedError, match="no inodes for more files") as raised, files.output_errors(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "full")
    assert "df -i" in raised.value.remedy
