"""Browser windows as in the tests of pages."""

from tests.ui.conftest import browser, window

__all__ = ["browser", "window"]
