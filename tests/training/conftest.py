"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the tests of a module cache out of the cache of others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDPM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
