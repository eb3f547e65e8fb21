"""What acceptance tests share by name alone."""

from collections.abc import Iterator

import pytest

from acceptance.browser import Browser, browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as there:
        yield there
