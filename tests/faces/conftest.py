"""What tests of faces share: the browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser with a profile of its own, for all tests of a module."""
    from tests.browsing import open_browser

    browser = open_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()
