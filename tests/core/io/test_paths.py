"""What a user names becomes a path in one place, or one message that names the option, the reason and the remedy."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm_cli.core.io.files import atomic_write, readable, to_json
from ddpm_cli.core.io.paths import parse_path, path_text, shell_word, text_alias, user_path
from ddpm_cli.core.io.temporaries import LONGEST_SUFFIX
from ddpm_cli.errors import DataError

BYTES = os.fsdecode(b"caf\xe9")
"""A name that is no UTF-8."""

takes_bytes = pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")

REFUSED = {
    "5,000 letters": ("a" * 5000, "aaa... (5,000 characters) is longer than the file system takes"),
    "many folders": ("a/" * 2500, "(5,000 characters) is longer"),
    "no room for a run": ("a/" * 1990 + "a", "is longer than the file system takes"),
    "a part of 300 letters": ("a" * 300, "(300 characters) is longer"),
    "a NUL": ("a\0b", "a?b has a NUL character in it"),
    "a NUL in a URI": ("file:///a%00b", "has a NUL character"),
    "half a character": ("a\ud800b", r"a\ud800b has half a character"),
    "nobody's home": ("~nosuchuser/x", "~nosuchuser/x stands for the home folder of a user who is not known"),
    "a circle": ("circle", "circle leads in a circle of symbolic links"),
    "through a circle": ("circle/x", "circle/x leads in a circle"),
    "through a file": ("file/x", "file/x leads through a file as if it were a folder"),
    "below a closed folder": ("closed/x", "closed/x leads into a folder that you may not look into"),
    "a closed folder": ("closed", "closed leads into a folder that you may not look into"),
    "nothing": ("", "--out is empty"),
}
TAKEN = {
    "a broken link": "broken",
    "here": ".",
    "above": "..",
    "a slash behind": "folder/",
    "a file": "file",
    "missing": "missing/x",
    "a tilde in the name": "a~",
}


def lay_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that the names above speak of; as root may look into everything, the system's answer is put in its place."""
    monkeypatch.chdir(folder)
    for name in ("folder", "closed"):
        os.mkdir(name)
    Path("file").write_text("text")
    os.symlink("nowhere", "broken")
    os.symlink("circle", "circle")
    stat = os.stat

    def guarded(path: object, *arguments: object, **options: object) -> object:
        if str(path).startswith("closed/"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "stat", guarded)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_path_here_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, monkeypatch)
    text, reason = REFUSED[kind]
    with pytest.raises(DataError) as raised:
        user_path(text, "--out", DataError)
    assert raised.value.message.startswith("--out ")
    assert reason in raised.value.message
    assert raised.value.remedy
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("kind", TAKEN)
def test_what_is_a_path_is_taken_as_it_is(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, monkeypatch)
    assert user_path(TAKEN[kind], "--out") == Path(TAKEN[kind])


@takes_bytes
def test_a_name_that_is_no_utf8_is_taken(tmp_path: Path) -> None:
    (tmp_path / BYTES).mkdir()
    assert user_path(str(tmp_path / BYTES), "--out") == tmp_path / BYTES
    assert user_path(f"{tmp_path.as_uri()}/caf%E9", "--out") == tmp_path / BYTES


def test_home_is_resolved_and_a_file_named_like_one_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(tmp_path, monkeypatch)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~", "RUN") == tmp_path
    assert user_path("~/folder", "RUN") == tmp_path / "folder"
    assert user_path("./~nosuchuser", "RUN") == Path("~nosuchuser")
    Path("~$letter").write_text("")
    assert user_path("~$letter", "RUN") == Path("~$letter")


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", "ünï".encode(), b"a%20b c", b"x\xc3"])
def test_a_path_is_written_as_text_and_read_again(name: bytes, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(name)
    text = path_text(path)
    text.encode()
    assert parse_path(text) == path


def test_text_is_utf8_whatever_is_in_it(tmp_path: Path) -> None:
    assert readable(f"{BYTES} 😀 \ud800") == r"caf\xe9 😀 \ud800"
    assert to_json({BYTES: [BYTES, "😀"]}).replace("\n", "") == r'{  "caf\\xe9": [    "caf\\xe9",    "\ud83d\ude00"  ]}'
    atomic_write(tmp_path / "page.html", BYTES)
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == r"caf\xe9"


def test_a_shell_takes_what_is_shown(tmp_path: Path) -> None:
    for name in (BYTES, f"it's \\{BYTES}", "it's"):
        command = ["bash", "-c", f"printf %s {shell_word(Path(name))}"]
        assert os.fsdecode(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) == name


@takes_bytes
def test_a_library_gets_a_name_that_it_can_take(tmp_path: Path) -> None:
    odd = tmp_path / f"{BYTES}.png"
    odd.write_bytes(b"content")
    with text_alias(odd) as alias:
        assert str(alias).encode()
        assert alias.suffix == ".png"
        assert alias.read_bytes() == b"content"
    assert not alias.exists()
    with text_alias(tmp_path) as alias:
        assert alias == tmp_path


def test_a_long_suffix_makes_no_temporary_name_too_long(tmp_path: Path) -> None:
    path = tmp_path / f"a.{'b' * 250}"
    atomic_write(path, "text")
    assert path.read_text() == "text"
    assert LONGEST_SUFFIX < 200
