from __future__ import annotations

import hashlib
import http.server
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from ddpm_cli.core.io import downloads as cache
from ddpm_cli.errors import RequestError

CONTENT = b"pixels" * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/garbage":
            self.wfile.write(b"this is no answer in HTTP\r\n\r\n")
            return
        found = self.path != "/absent"
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if found:
            self.wfile.write(CONTENT[:100] if self.path == "/cut" else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_environment_variable_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DDPM_CACHE", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_directory() == tmp_path / "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="these are the folders of XDG")
@pytest.mark.parametrize(
    ("xdg", "expected"),
    [
        ("/caches", "/caches/ddpm"),
        ("", "/home/ada/.cache/ddpm"),
        ("relative", "/home/ada/.cache/ddpm"),  # the XDG specification says to ignore these
    ],
)
def test_platform_folder(monkeypatch: pytest.MonkeyPatch, xdg: str, expected: str) -> None:
    monkeypatch.setenv("DDPM_CACHE", "")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert cache.cache_directory() == Path(expected)


def test_without_a_home_folder_a_cache_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(user: int) -> NoReturn:
        raise KeyError(user)

    monkeypatch.delenv("DDPM_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    with pytest.raises(RequestError, match="no home folder"):
        cache.cache_directory()


def test_fetch_is_silent_and_leaves_one_whole_file(server: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = socket.getdefaulttimeout()
    path = tmp_path / "new" / "folder" / "file.gz"
    cache.fetch(f"{server}/file.gz", path, MD5)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    assert socket.getdefaulttimeout() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["absent", "cut", "garbage"])
def test_failed_fetch_leaves_nothing(server: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match=f"/{name}: "):
        cache.fetch(f"{server}/{name}", tmp_path / "file.gz", MD5)
    assert list(tmp_path.iterdir()) == []


def test_wrong_sum_is_an_error(server: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="corrupted"):
        cache.fetch(f"{server}/file.gz", tmp_path / "file.gz", "0" * 32)
    assert list(tmp_path.iterdir()) == []


def test_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(cache, "SILENCE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(OSError, match="timed out"):
        cache.fetch(f"http://127.0.0.1:{listening.getsockname()[1]}/file.gz", tmp_path / "file.gz", MD5)
