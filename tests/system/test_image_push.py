"""How images reach a real registry (Debian's `docker-registry`): what is sent, with which login, over which way."""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from faulty_registry import FaultyRegistry
from modelway.builders.base import BuildOptions, load_builder
from modelway.errors import ImageInvalid, ModelwayError, RegistryError
from modelway.oci import trust
from modelway.oci.images import unpack_image
from modelway.oci.manifest import Descriptor
from modelway.oci.referrers import read_referrer, read_referrers
from modelway.oci.registry import RegistryClient
from modelway.oci.signatures import ENVELOPE, STATEMENT, opened
from registry import Registry, basic_auth, needs_registry

from tests.certificates import write_certificate
from tests.image_samples import image_layers

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.system, needs_registry]
WEIGHTS = {f"/models/model/{name}.safetensors": name.encode() * 100_000 for name in ("a", "b", "c")}
SMALL = {"/models/outputs/model.yml": b"{}", "/models/golden/inputs": b"golden"}
UPLOAD = "/blobs/uploads/.*digest="


@pytest.fixture(autouse=True)
def docker_settings(tmp_path, monkeypatch):
    """Docker's settings of these tests alone."""
    folder = tmp_path / "docker"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return folder / "config.json"


@pytest.fixture
def proxy(shared):
    running = FaultyRegistry(shared.port)
    yield running
    running.stop()


def build(folder, host, repository, *, made=None, base="scratch", **options):
    named = BuildOptions(
        name="digits",
        repository=f"{host}/{repository}",
        **{"tag": "v1", "known_layers": folder / "layers", **options},
    )
    return load_builder("oci").build(layers=made or image_layers(folder, WEIGHTS, SMALL), base=base, options=named)


def check_contents(root, files):
    for name, data in files.items():
        assert (root / name.lstrip("/")).read_bytes() == data


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_an_unchanged_image_is_built_again_without_reading_a_file(proxy, repository, tmp_path):
    made = image_layers(tmp_path, WEIGHTS, SMALL)
    first = build(tmp_path, proxy.host, repository, made=made)
    before = len(proxy.requests)
    for layer in made:
        for file in layer.files:
            file.source.unlink()
    assert build(tmp_path, proxy.host, repository, made=made) == first
    assert {method for method, _ in proxy.requests[before:]} == {"HEAD"}


def test_layers_whose_digests_freezing_knows_are_hashed_nowhere(proxy, repository, tmp_path):
    made = image_layers(tmp_path, WEIGHTS, SMALL)
    first = build(tmp_path, proxy.host, repository, made=made)
    known = [replace(layer, digest=digest) for layer, digest in zip(made, first.layers, strict=True)]
    before = len(proxy.requests)
    for layer in made:
        for file in layer.files:
            file.source.unlink()
    assert build(tmp_path, proxy.host, repository, made=known, known_layers=None) == first
    assert {method for method, _ in proxy.requests[before:]} == {"HEAD"}


def test_a_digest_that_freezing_had_wrong_is_found_by_the_registry(proxy, repository, tmp_path):
    made = image_layers(tmp_path, WEIGHTS, SMALL)
    wrong = [replace(made[0], digest="sha256:" + "0" * 64), *made[1:]]
    with pytest.raises(ImageInvalid, match="the recorded digest of a layer was wrong"):
        build(tmp_path, proxy.host, repository, made=wrong)
    image = build(tmp_path, proxy.host, repository, made=wrong)
    root = unpack_image(reference=f"{proxy.host}/{repository}@{image.digest}", into=tmp_path / "u")
    check_contents(root, {**WEIGHTS, **SMALL})


def test_a_new_version_sends_its_changed_weights_and_a_few_kilobytes(proxy, repository, tmp_path):
    first = build(tmp_path, proxy.host, repository)
    sent = proxy.count("PUT", UPLOAD)
    weights = {**WEIGHTS, "/models/model/b.safetensors": b"changed" * 10_000}
    changed = image_layers(tmp_path, weights, {**SMALL, "/models/outputs/model.yml": b"[]"})
    image = build(tmp_path, proxy.host, repository, made=changed, tag="v2")
    same = [one == other for one, other in zip(first.layers, image.layers, strict=True)]
    assert same == [True, False, True, False]
    assert proxy.count("PUT", UPLOAD) == sent + 3, "the changed weights, the small files and the config"
    with RegistryClient(host=proxy.host) as client:
        manifest = json.loads(client.pull_manifest(repository=repository, digest=image.digest))
    small = manifest["layers"][3]["size"] + manifest["config"]["size"]
    assert small < 20_000
    assert manifest["layers"][0]["annotations"] == {"io.modelway.path": "/models/model/a.safetensors"}
    assert "annotations" not in manifest["layers"][3]


def test_the_declared_order_comes_first_and_the_small_files_last(shared, repository, tmp_path):
    first = build(tmp_path, shared.host, repository)
    order = ["model/c*", "/models/model/b.safetensors"]
    image = build(tmp_path, shared.host, repository, tag="v2", platform={"order": order})
    assert image.layers == (first.layers[2], first.layers[1], first.layers[0], first.layers[3])


def test_chunks_are_sent_where_a_registry_requires_them(proxy, repository, tmp_path):
    image = build(tmp_path, proxy.host, repository, platform={"chunk_bytes": 40_000, "parallel": 1})
    assert proxy.count("PATCH", "/uploads/") == 3 * 3, "three chunks for each of the weights"
    root = unpack_image(reference=f"{proxy.host}/{repository}@{image.digest}", into=tmp_path / "u")
    check_contents(root, {**WEIGHTS, **SMALL})


def test_a_base_of_another_registry_is_streamed_into_this_one(shared, proxy, repository, tmp_path):
    other = Registry(tmp_path / "docker")
    try:
        base = build(
            tmp_path,
            other.host,
            "models/base",
            made=image_layers(tmp_path, {"/usr/base": b"base" * 50_000}, {"/b": b"b"}),
        )
        image = build(tmp_path, proxy.host, repository, base=base.reference)
    finally:
        other.stop()
    assert image.layers[:2] == base.layers
    root = unpack_image(reference=image.reference.replace(proxy.host, shared.host), into=tmp_path / "u")
    check_contents(root, {"/usr/base": b"base" * 50_000, **WEIGHTS, **SMALL})


def test_an_image_needs_a_place(tmp_path):
    with pytest.raises(ModelwayError, match=r"neither a layout folder nor a repository is named\. Name one of them"):
        load_builder("oci").build(
            layers=image_layers(tmp_path, WEIGHTS, SMALL), base="scratch", options=BuildOptions(name="digits")
        )


# --- logins -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A registry that lets in me:s3cret."""
    folder = tmp_path_factory.mktemp("closed")
    registry = Registry(folder, auth=basic_auth(folder))
    yield registry
    registry.stop()


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def test_the_login_is_the_one_that_docker_has(closed, repository, tmp_path, docker_settings, monkeypatch):
    settings = {"auths": {closed.host: {"auth": encoded("me:s3cret")}, "other": {"auth": "broken"}}}
    docker_settings.write_text(json.dumps(settings))
    image = build(tmp_path, closed.host, repository)
    check_contents(unpack_image(reference=image.reference, into=tmp_path / "u"), WEIGHTS)
    docker_settings.rename(tmp_path / "auth.json")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    assert build(tmp_path, closed.host, repository) == image


def test_a_credential_helper_is_asked(closed, repository, tmp_path, docker_settings, monkeypatch):
    program = tmp_path / "bin" / "docker-credential-mine"
    program.parent.mkdir()
    answer = json.dumps({"ServerURL": closed.host, "Username": "me", "Secret": "s3cret"})
    program.write_text(f'#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = {closed.host} ] && echo \'{answer}\'\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    docker_settings.write_text(json.dumps({"credHelpers": {closed.host: "mine"}}))
    image = build(tmp_path, closed.host, repository)
    docker_settings.write_text(json.dumps({"credsStore": "mine"}))
    assert build(tmp_path, closed.host, repository) == image


def test_a_helper_that_fails_or_settings_that_are_broken_are_named(closed, repository, tmp_path, docker_settings):
    docker_settings.write_text(json.dumps({"credHelpers": {closed.host: "absent"}}))
    with pytest.raises(RegistryError, match=r"docker-credential-absent: the credential helper does not answer") as bad:
        build(tmp_path, closed.host, repository)
    assert not bad.value.retryable
    docker_settings.write_text(json.dumps({"auths": {closed.host: {"auth": "s3cret"}}}))
    with pytest.raises(RegistryError, match=r"config\.json: the login of .* Run docker login") as bad:
        build(tmp_path, closed.host, repository)
    assert "s3cret" not in str(bad.value)
    docker_settings.write_text("{s3cret")
    with pytest.raises(RegistryError, match=r"config\.json: Docker's settings cannot be read") as bad:
        build(tmp_path, closed.host, repository)
    assert "s3cret" not in str(bad.value)


def test_the_given_login_precedes_that_of_docker(closed, repository, tmp_path, docker_settings):
    docker_settings.write_text(json.dumps({"auths": {closed.host: {"auth": encoded("me:wrong")}}}))
    assert build(tmp_path, closed.host, repository, username="me", password="s3cret").digest
    with pytest.raises(RegistryError, match="refuses access"):
        build(tmp_path, closed.host, f"{repository}-2")


# --- the way ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def named_host(monkeypatch):
    """The name registry.test leads to this machine."""
    real = socket.getaddrinfo

    def resolve(host, *args, **kwargs):
        return real("127.0.0.1" if host in ("registry.test", b"registry.test") else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return "registry.test"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of registry.test that nobody signed but itself, and its key, in one file."""
    return write_certificate(tmp_path_factory.mktemp("certificate"), host="registry.test")


@pytest.fixture
def over_tls(shared, certificate):
    """A door with TLS before the registry; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    running = FaultyRegistry(shared.port, tls=context)
    yield running.host.rpartition(":")[2]
    running.stop()


def test_tls_is_spoken_and_an_unknown_certificate_refused(
    named_host, over_tls, certificate, repository, tmp_path, monkeypatch
):
    host = f"{named_host}:{over_tls}"
    with pytest.raises(RegistryError, match=r"the registry does not answer .*CERTIFICATE_VERIFY_FAILED"):
        build(tmp_path, host, repository)
    folder = tmp_path / "certs.d" / host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(certificate.read_bytes())
    monkeypatch.setattr(trust, "FOLDERS", (tmp_path / "certs.d",))
    image = build(tmp_path, host, repository)
    check_contents(unpack_image(reference=image.reference, into=tmp_path / "u"), WEIGHTS)
    (folder / "ca.crt").write_text("broken")
    with pytest.raises(RegistryError, match=r"certs\.d/.*: a certificate cannot be read"):
        build(tmp_path, host, repository)


def test_certificates_of_the_environment_are_trusted(
    named_host, over_tls, certificate, repository, tmp_path, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert build(tmp_path, f"{named_host}:{over_tls}", repository).digest


def test_a_proxy_of_the_environment_is_used(shared, repository, tmp_path, monkeypatch):
    passed = []

    class Forward(BaseHTTPRequestHandler):
        def forward(self):
            url = urlsplit(self.path)
            passed.append(url.netloc)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            target = f"http://{shared.host}{url.path}?{url.query}"
            answer = httpx.request(self.command, target, content=body, headers=dict(self.headers), trust_env=False)
            self.send_response(answer.status_code)
            for name, value in {**answer.headers, "content-length": str(len(answer.content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.content)

        do_GET = do_HEAD = do_POST = do_PUT = forward

        def log_message(self, *_):
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    image = build(tmp_path, "registry.elsewhere:5000", repository, platform={"insecure": True})
    server.shutdown()
    server.server_close()
    assert set(passed) == {"registry.elsewhere:5000"}
    root = unpack_image(reference=f"{shared.host}/{repository}@{image.digest}", into=tmp_path / "u")
    check_contents(root, WEIGHTS)


def test_a_mirror_is_read_first_and_the_registry_where_it_lacks_something(
    shared, proxy, repository, tmp_path, monkeypatch
):
    image = build(tmp_path, shared.host, repository)
    monkeypatch.setenv("MODELWAY_REGISTRY_MIRRORS", f"ghcr.io=mirror.invalid, {shared.host}={proxy.host}")
    unpack_image(reference=image.reference, into=tmp_path / "u")
    assert proxy.count("GET", "/blobs/") == 5
    (tmp_path / "docker" / "mirror").mkdir()
    empty = Registry(tmp_path / "docker" / "mirror")
    try:
        monkeypatch.setenv("MODELWAY_REGISTRY_MIRRORS", f"{shared.host}={empty.host}/hub")
        check_contents(unpack_image(reference=image.reference, into=tmp_path / "u2"), WEIGHTS)
        assert any("/v2/hub/models/" in uri for _, uri in empty.requests("GET"))
    finally:
        empty.stop()
    monkeypatch.setenv("MODELWAY_REGISTRY_MIRRORS", "docker.io")
    with pytest.raises(ModelwayError, match="MODELWAY_REGISTRY_MIRRORS: 'docker.io' does not name a registry and its"):
        unpack_image(reference=image.reference, into=tmp_path / "u3")


# --- beside the image -------------------------------------------------------------------------------------------------

ABOUT = {"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1", "predicate": {}}


def test_provenance_refers_to_the_image_and_a_tag_lists_it(shared, repository, tmp_path):
    image = build(tmp_path, shared.host, repository, statement=ABOUT)
    assert build(tmp_path, shared.host, repository, statement=ABOUT) == image
    with RegistryClient(host=shared.host) as client:
        ((kind, digest),) = read_referrers(client=client, repository=repository, digest=image.digest)
        statement = json.loads(read_referrer(client=client, repository=repository, digest=digest).data)
        manifest = json.loads(client.pull_manifest(repository=repository, digest=digest))
        by_tag = client.find_manifest(repository=repository, name=image.digest.replace(":", "-"))
        assert client.list_referrers(repository=repository, digest=image.digest) is None
    assert kind == STATEMENT
    assert statement["subject"] == [
        {"name": f"{shared.host}/{repository}", "digest": {"sha256": image.digest.removeprefix("sha256:")}}
    ]
    assert manifest["subject"]["digest"] == image.digest
    assert by_tag


def test_a_registry_with_a_list_of_referrers_gets_no_tag(shared, repository, tmp_path):
    """Stands in for registries of OCI 1.1, none of which Debian has: the list is answered by the proxy."""
    proxy = FaultyRegistry(shared.port)
    proxy.answers["/referrers/"] = json.dumps({"schemaVersion": 2, "manifests": []}).encode()
    image = build(tmp_path, proxy.host, repository, statement=ABOUT)
    proxy.stop()
    assert proxy.count("PUT", "/manifests/sha256-") == 0
    assert proxy.count("PUT", "/manifests/sha256:") == 2
    assert image.digest


def test_two_kinds_of_provenance_are_both_listed(shared, repository, tmp_path):
    build(tmp_path, shared.host, repository, statement=ABOUT)
    image = build(tmp_path, shared.host, repository, statement={**ABOUT, "predicate": {"other": 1}})
    with RegistryClient(host=shared.host) as client:
        assert len(read_referrers(client=client, repository=repository, digest=image.digest)) == 2


def test_provenance_is_signed_the_same_each_time(shared, repository, tmp_path):
    private, public, other = (tmp_path / name for name in ("private.pem", "public.pem", "other.pem"))
    for key in (private, other):
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], check=True)
    image = build(tmp_path, shared.host, repository, statement=ABOUT, signing_key=private)
    assert build(tmp_path, shared.host, repository, statement=ABOUT, signing_key=private) == image
    with RegistryClient(host=shared.host) as client:
        ((kind, digest),) = read_referrers(client=client, repository=repository, digest=image.digest)
        envelope = read_referrer(client=client, repository=repository, digest=digest).data
    assert kind == ENVELOPE
    assert json.loads(opened(envelope, key=public))["predicateType"] == ABOUT["predicateType"]
    subprocess.run(["openssl", "pkey", "-in", str(other), "-pubout", "-out", str(public)], check=True)
    with pytest.raises(ImageInvalid, match="the provenance is not signed with this key"):
        opened(envelope, key=public)
    with pytest.raises(ModelwayError, match=r"public\.pem: the file has no Ed25519 private key"):
        build(tmp_path, shared.host, repository, statement=ABOUT, signing_key=public)


@pytest.mark.timeout(900)
def test_the_same_layers_are_a_modelpack_that_oras_reads(proxy, repository, tmp_path):
    install = subprocess.run(["sh", str(ROOT / "tests/system/install_clients.sh")], capture_output=True, text=True)
    assert install.returncode == 0, install.stderr
    image = build(tmp_path, proxy.host, repository)
    sent = proxy.count("PUT", UPLOAD)
    assert build(tmp_path, proxy.host, repository, platform={"modelpack": True}) == image
    assert proxy.count("PUT", UPLOAD) == sent + 1, "its config alone"
    pull = "import oras.client, sys; oras.client.OrasClient(insecure=True).pull(target=sys.argv[1], outdir=sys.argv[2])"
    target = f"{proxy.host}/{repository}:v1-modelpack"
    python = str(ROOT / ".venv-clients/bin/python")
    done = subprocess.run([python, "-c", pull, target, str(tmp_path / "pulled")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, data in WEIGHTS.items():
        archive = tmp_path / "pulled" / f"{Path(name).name}.tar"
        out = subprocess.run(["tar", "-xOf", str(archive), name.lstrip("/")], capture_output=True, check=True).stdout
        assert out == data
    with RegistryClient(host=proxy.host) as client:
        digest = client.find_manifest(repository=repository, name="v1-modelpack")
        manifest = json.loads(client.pull_manifest(repository=repository, digest=digest))
        config = client.pull_document(
            repository=repository, descriptor=Descriptor.from_dict(manifest["config"], where="the manifest")
        )
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert {layer["mediaType"] for layer in manifest["layers"]} == {
        "application/vnd.cncf.model.weight.v1.tar",
        "application/vnd.cncf.model.weight.config.v1.tar",
    }
    assert json.loads(config)["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]


# --- memory -----------------------------------------------------------------------------------------------------------

MEASURED = """
import hashlib, re, sys
from pathlib import Path
from modelway.builders.base import BuildOptions, Layer, LayerFile, load_builder
listed = []
for place in map(Path, sys.argv[2:]):
    with place.open("rb") as file:
        digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    file = LayerFile(path_in_image=f"/models/{place.name}", source=place, size=place.stat().st_size, digest=digest)
    listed.append(Layer(files=(file,)))
load_builder("oci").build(layers=listed, base="scratch", options=BuildOptions(name="digits", repository=sys.argv[1]))
print(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_memory_does_not_grow_with_the_model(shared, tmp_path):
    used = []
    for size in (1, 12):
        files = []
        for number in range(3):
            files.append(tmp_path / f"{size}-{number}")
            files[-1].write_bytes(os.urandom(size << 20))
        command = [sys.executable, "-c", MEASURED, f"{shared.host}/models/memory-{size}", *map(str, files)]
        used.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    assert used[1] < used[0] + 6 * 1024, f"{used} KiB"
