"""Images copied into a layout folder."""

import json
from pathlib import Path
from typing import Any

import pytest
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import DOCKER_INDEX, INDEX, canonical_json, parse_reference
from modelway.oci.transfer import copy_to_layout

from tests.image_samples import entry, make_image, tar


@pytest.mark.parametrize(
    ("fields", "kind"), [({}, INDEX), ({"mediaType": INDEX}, INDEX), ({"mediaType": DOCKER_INDEX}, DOCKER_INDEX)]
)
def test_an_index_is_listed_as_what_it_is(tmp_path: Path, fields: dict[str, Any], kind: str) -> None:
    source, copy = OciLayout(tmp_path / "images"), OciLayout(tmp_path / "copy")
    image = parse_reference(make_image(source, tar(entry("a", b"1")))).digest
    size = source.blob_path(image).stat().st_size
    listed = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": image,
        "size": size,
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = source.write_blob(canonical_json({"schemaVersion": 2, "manifests": [listed], **fields}), media_type=kind)
    copy_to_layout(source=source, digest=index.digest, layout=copy)
    entries = json.loads((copy.root / "index.json").read_bytes())["manifests"]
    assert {each["digest"]: each["mediaType"] for each in entries}[index.digest] == kind
