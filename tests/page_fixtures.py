"""``pages``, the application of the pages that the tests of a module share.

tests/conftest.py loads it as a plugin; the pages themselves are imported by the first test that needs them.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.mounted_pages import MountedPages


@pytest.fixture(scope="module")
def pages() -> "MountedPages":
    from tests.mounted_pages import MountedPages

    return MountedPages()
