"""A browser for the tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import browser
import pytest


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Tab]:
    if browser.CHROMIUM is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with browser.browser() as opened:
        yield opened
