"""``pages``, the application of the pages that all tests share: making its routes takes as long as many tests.

tests/conftest.py loads it as a plugin; the pages themselves are imported by the first test that needs them.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mounted_pages import MountedPages


@pytest.fixture(scope="session")
def mounted_pages() -> "MountedPages":
    from tests.mounted_pages import MountedPages

    return MountedPages()


@pytest.fixture(scope="module")
def pages(mounted_pages: "MountedPages") -> Iterator["MountedPages"]:
    """The pages without the settings of another module, on one event loop for the requests of this one."""
    with mounted_pages.for_a_module():
        yield mounted_pages
