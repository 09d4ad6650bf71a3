"""The programs that exported files are for, which not everybody has installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ddpm_cli.errors import RequestError

INSTALL = "pip install 'ddpm-cli[interop]'"


@contextmanager
def interop(wanted_for: str) -> Iterator[None]:
    """Around the import of a package of the extra `interop`: say how to install it if it is missing.

    Args:
        wanted_for: What needs it.
    Raises:
        RequestError: If it is missing.
    """
    try:
        yield
    except ImportError as error:
        missing = error.name or "that is missing"
        raise RequestError(
            f"{wanted_for} needs the package {missing}, which cannot be imported.", f"Install it: {INSTALL}"
        ) from error
