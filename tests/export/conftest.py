"""Chromium, for the tests of the page."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import xpnet
from bench.page import browser, shown


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Not for the session, since Playwright leaves a running event loop in the way of other tests."""
    pytest.importorskip("playwright.sync_api", reason="needs playwright, of the dependency group browser")
    try:
        with browser() as found:
            yield found
    except xpnet.MissingPackageError as error:
        pytest.skip(str(error))


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page's content; at the end, nothing was on its console and only its file was asked for."""
    said: list[str] = []
    asked: list[str] = []
    with contextlib.ExitStack() as stack:

        def opened(page: bytes, **context: Any) -> Any:
            tab = stack.enter_context(shown(chromium, page, **context))
            tab.on("console", lambda message: said.append(message.text))
            tab.on("pageerror", lambda error: said.append(str(error)))
            tab.on("request", lambda request: asked.append(request.url))
            tab.reload()
            return tab

        yield opened
    assert said == []
    assert all(url.startswith("file:///") and url.endswith("/page.html") for url in asked)
