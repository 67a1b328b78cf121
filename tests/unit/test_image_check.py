"""Which files `check_image` finds in an image: those that a container sees once the layers lie on one another."""

import gzip
import tarfile
from pathlib import Path
from typing import Any

import pytest
from modelway.oci.check import check_image
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import LAYER_GZIP, bytes_digest, parse_reference

from tests.image_samples import entry, folder, link, make_image, tar

WEIGHTS = "models/model/w.safetensors"
GOOD, BAD = b"GOOD", b"BAD!"
HARD = tarfile.LNKTYPE
IMAGES: dict[str, tuple[list[list[Any]], dict[str, bytes]]] = {
    "a link of a base": (
        [[entry("usr/lib/x.so.1", GOOD), link("usr/lib/x.so", "x.so.1"), link("bin", "usr/bin")]],
        {"usr/lib/x.so.1": GOOD},
    ),
    "replaced": ([[entry(WEIGHTS, GOOD)], [entry(WEIGHTS, BAD)]], {WEIGHTS: BAD}),
    "removed": ([[entry(WEIGHTS, GOOD)], [entry("models/model/.wh.w.safetensors")]], {}),
    "its folder removed": (
        [[entry(WEIGHTS, GOOD), entry("models/a", BAD)], [entry("models/.wh.model")]],
        {"models/a": BAD},
    ),
    "a folder emptied": (
        [[entry(WEIGHTS, GOOD)], [entry("models/model/new", BAD), entry("models/.wh..wh..opq")]],
        {"models/model/new": BAD},
    ),
    "removed and written again": (
        [[entry(WEIGHTS, GOOD)], [entry("models/model/.wh.w.safetensors")], [entry(WEIGHTS, GOOD)]],
        {WEIGHTS: GOOD},
    ),
    "a link over it": ([[entry(WEIGHTS, GOOD)], [link(WEIGHTS, "/other")]], {}),
    "a link over its folder": ([[entry(WEIGHTS, GOOD)], [link("models/model", "/other")]], {}),
    "a folder over it": ([[entry(WEIGHTS, GOOD)], [folder(WEIGHTS)]], {}),
    "a file over its folder": ([[entry(WEIGHTS, GOOD)], [entry("models/model", BAD)]], {"models/model": BAD}),
    "a folder named again": ([[entry(WEIGHTS, GOOD)], [folder("models"), folder("models/model")]], {WEIGHTS: GOOD}),
    "through a link": (
        [
            [link("models", "srv/up/../models"), folder("srv/models")],
            [entry(WEIGHTS, GOOD)],
            [entry(f"srv/{WEIGHTS}", BAD)],
        ],
        {f"srv/{WEIGHTS}": BAD},
    ),
    "a link that ends nowhere": ([[link("a", "b"), link("b", "a")], [entry("c", GOOD)]], {"c": GOOD}),
    "a second name": ([[entry("x", GOOD)], [entry("x", BAD), link(WEIGHTS, "x", HARD)]], {"x": BAD, WEIGHTS: BAD}),
    "by another name": ([[entry("./models/../models/model//w.safetensors", GOOD)]], {WEIGHTS: GOOD}),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("packed", [False, True])
def test_the_files_of_an_image_are_those_that_a_container_sees(tmp_path: Path, name: str, packed: bool) -> None:
    layers, files = IMAGES[name]
    layout = OciLayout(tmp_path / "images")
    how = {"media_type": LAYER_GZIP, "pack": gzip.compress} if packed else {}
    digest = parse_reference(make_image(layout, *(tar(*members) for members in layers), **how)).digest
    assert check_image(layout, digest).files == {f"/{path}": bytes_digest(data) for path, data in files.items()}
