"""axe-core, which finds what keeps people from using a page: from npm's registry, pinned and checked.

It is no part of modelway: it is licensed under the MPL 2.0, and runs in the browser of the tests.
"""

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any

from selenium import webdriver

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
_URL = f"https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz"
_STORED = Path(__file__).resolve().parents[2] / ".modelway" / f"axe-core-{VERSION}.tgz"
#: WCAG 2.2 of the levels A and AA
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
_RUN = """
const [options, done] = arguments;
axe.run(document, options).then((found) => done(found.violations.map((each) => ({
  id: each.id, help: each.help,
  nodes: each.nodes.slice(0, 3).map((node) => node.html.slice(0, 200) + " " + node.failureSummary),
}))), (error) => done([{ id: "axe", help: String(error), nodes: [] }]));
"""


def violations(browser: webdriver.Chrome, *rules: str) -> list[Any]:
    """Return what axe finds wrong with the page that the browser shows.

    :param rules: the only rules that are checked; none: all of WCAG's levels A and AA
    """
    if not browser.execute_script("return 'axe' in window"):
        browser.execute_script(_source())
    only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": _TAGS}
    found: list[Any] = browser.execute_async_script(_RUN, {"runOnly": only, "resultTypes": ["violations"]})
    return found


@cache
def _source() -> str:
    if not _STORED.exists():
        packed = _download()
        _STORED.parent.mkdir(exist_ok=True)
        # Another process may do the same at once: the file is there whole, or not at all.
        with tempfile.NamedTemporaryFile(dir=_STORED.parent, delete=False) as file:
            file.write(packed)
        Path(file.name).rename(_STORED)
    packed = _STORED.read_bytes()
    digest = base64.b64encode(hashlib.sha512(packed).digest()).decode()
    assert digest == SHA512, f"{_STORED} is not axe-core {VERSION}: remove it"
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        file_in_it = archive.extractfile("package/axe.min.js")
        assert file_in_it is not None
        return file_in_it.read().decode()


def _download() -> bytes:
    if shutil.which("npm") is None:
        with urllib.request.urlopen(_URL, timeout=120) as answer:
            body: bytes = answer.read()
            return body
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", f"axe-core@{VERSION}", "--silent"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
        return (Path(folder) / f"axe-core-{VERSION}.tgz").read_bytes()
