"""Images copied between repositories of a real registry, with what other tools have attached to them."""

import json

import pytest
from faulty_registry import FaultyRegistry
from modelway.oci.blobs import document_blob
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import MANIFEST, Descriptor, bytes_digest, parse_reference
from modelway.oci.push import push
from modelway.oci.referrers import Referrer, attach, list_referrer, read_referrers
from modelway.oci.registry import RegistryClient
from modelway.oci.signatures import STATEMENT
from modelway.oci.sources import RegistryImages
from modelway.oci.transfer import copy_to_registry
from registry import Registry, needs_registry

from tests.image_samples import entry, make_image, tar

pytestmark = [pytest.mark.system, needs_registry]
NOTARY = "application/vnd.cncf.notary.signature"
SBOM = "application/spdx+json"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    running = Registry(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def listing(registry):
    """The registry as one of OCI 1.1, none of which Debian has: it says that it lists referrers itself."""
    proxy = FaultyRegistry(registry.port)
    proxy.answers["/referrers/"] = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    yield proxy
    proxy.stop()


def push_foreign(client, subject, **fields):
    """Push a referrer as other tools write it, and let the tag list it; return its digest."""
    config, payload = (
        document_blob(data, Descriptor(media_type=kind, digest=bytes_digest(data), size=len(data)))
        for kind, data in ((NOTARY, b"{}"), ("application/jose+json", b"{ }"))
    )
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor.to_dict(),
        "layers": [{**payload.descriptor.to_dict(), "annotations": {"dev.cosignproject.cosign/signature": "MEUC"}}],
        "subject": {"mediaType": MANIFEST, "digest": subject, "size": 1},
        "annotations": {"io.cncf.notary.x509chain.thumbprint#S256": "[]"},
        **fields,
    }
    data = json.dumps(document, indent=2).encode()
    known = Descriptor(media_type=MANIFEST, digest=bytes_digest(data), size=len(data))
    push(client=client, repository="digits", manifest=data, descriptor=known, blobs=[config, payload])
    list_referrer(client=client, repository="digits", subject=subject, data=data)
    return known.digest


def test_what_other_tools_attached_is_copied_as_it_is(registry, listing, tmp_path):
    layout = OciLayout(tmp_path / "images")
    image = parse_reference(make_image(layout, tar(entry("models/model/model.onnx", b"program")))).digest
    with RegistryClient(host=registry.host) as client, RegistryClient(host=listing.host) as to_listing:
        copy_to_registry(source=layout, digest=image, client=client, repository="digits", tag="v1", mount_from=None)
        data = client.pull_manifest(repository="digits", digest=image)
        subject = Descriptor(media_type=MANIFEST, digest=image, size=len(data))
        ours = attach(
            client=client,
            repository="digits",
            subject=subject,
            referrer=Referrer(artifact_type=STATEMENT, data=b"{}", annotations={"a": "b"}),
        )
        signature = push_foreign(client, image)
        sbom = push_foreign(client, image, artifactType=SBOM)
        of_sbom = push_foreign(client, sbom)
        # Whoever may push writes this tag: here it lists the image itself.
        list_referrer(client=client, repository="digits", subject=image, data=data)
        assert len(read_referrers(client=client, repository="digits", digest=image)) == 4

        source = RegistryImages(client=client, repository="digits")
        for to, name in ((client, "copy"), (to_listing, "listing")):
            copy_to_registry(source=source, digest=image, client=to, repository=name, tag="v1", mount_from="digits")
            for digest in (ours, signature, sbom, of_sbom):
                copied = client.pull_manifest(repository=name, digest=digest)
                assert copied == client.pull_manifest(repository="digits", digest=digest)
        listed = read_referrers(client=client, repository="copy", digest=image)
        assert listed == [(STATEMENT, ours), (NOTARY, signature), (SBOM, sbom)]
        assert read_referrers(client=client, repository="copy", digest=sbom) == [(NOTARY, of_sbom)]
        # A second copy lists nothing twice.
        copy_to_registry(source=source, digest=image, client=client, repository="copy", tag="v1", mount_from=None)
        assert read_referrers(client=client, repository="copy", digest=image) == listed
    assert listing.count("PUT", "/manifests/sha256-") == 0
