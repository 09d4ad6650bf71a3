"""Find the folder that downloads are kept in, and put them there."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

from ddpm_cli.core.io.files import scratch_folder
from ddpm_cli.core.io.paths import user_path
from ddpm_cli.errors import RequestError

SILENCE_SECONDS = 10.0


def cache_directory() -> Path:
    """Find the folder for downloads: $DDPM_CACHE, or `ddpm` in the platform's own cache folder. It need not exist yet.

    Raises:
        RequestError: If what the environment names cannot be used, or there is no home folder.
    """
    from platformdirs import user_cache_path

    if chosen := os.environ.get("DDPM_CACHE"):
        return user_path(chosen, "The environment variable DDPM_CACHE").absolute()
    try:
        found = user_cache_path("ddpm", appauthor=False, opinion=False)
    except RuntimeError as error:
        raise RequestError(
            "There is no home folder to keep the cache in.", "Let the environment variable DDPM_CACHE name a folder."
        ) from error
    return user_path(found, "The environment's folder for caches")


def fetch(url: str, path: Path, md5: str) -> None:
    """Download a file with torchvision; `path` appears once it is complete and its sum is right.

    Args:
        url: Where it is.
        path: Where it goes; missing folders are made.
        md5: Published sum, hexadecimal.
    Raises:
        OSError: If the server cannot be reached, says nothing for 10 s, sends something else, or `path` cannot be written.
    """
    from torchvision.datasets.utils import download_url

    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path) as folder:
        try:
            with quiet_network():
                download_url(url, str(folder), filename=path.name, md5=md5)
        except (OSError, RuntimeError, HTTPException) as error:
            raise OSError(f"{url}: {getattr(error, 'reason', None) or error}") from error
        os.replace(folder / path.name, path)


@contextlib.contextmanager
def quiet_network() -> Iterator[None]:
    """Give up on servers that say nothing for 10 s, and keep torchvision's progress bar off the console."""
    with short_timeout(), _silence():
        yield


@contextlib.contextmanager
def short_timeout() -> Iterator[None]:
    """Give up on a server that says nothing for 10 s, for downloads that set no limit of their own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep torchvision's own progress bar off the console, which belongs to the caller."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
