"""Images in a real registry (Debian's `docker-registry`): pushed once, pulled whole, refused when damaged."""

import datetime
import hashlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import tracemalloc
from base64 import b64decode, b64encode
from urllib.parse import parse_qs, urlsplit

import pytest
from modelway.builders.base import BuildOptions, Layer, LayerFile, load_builder
from modelway.errors import ImageInvalid, RegistryError
from modelway.oci.blobs import source_blob
from modelway.oci.images import unpack_image
from modelway.oci.layout import OciLayout
from modelway.oci.registry import RegistryClient
from modelway.oci.transfer import copy_to_registry
from registry import Registry, basic_auth, needs_registry

pytestmark = [pytest.mark.system, needs_registry]
FILES = {"/models/model/model.onnx": b"onnx" * 5000, "/models/model/model.safetensors": os.urandom(1_000_000)}
METADATA = {"/models/MANIFEST.json": b"{}"}
BLOB_ANSWERS = ("PUT", "PATCH")


@pytest.fixture
def start(tmp_path):
    running = []

    def begin(**options):
        folder = tmp_path / f"registry{len(running)}"
        folder.mkdir()
        running.append(Registry(folder, **options))
        return running[-1]

    yield begin
    for registry in running:
        registry.stop()


def layer(folder, files):
    listed = []
    for name, data in files.items():
        path = folder / hashlib.sha256(name.encode() + data).hexdigest()
        path.write_bytes(data)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        listed.append(LayerFile(path_in_image=name, source=path, size=len(data), digest=digest))
    return Layer(files=tuple(listed))


def build(folder, *, files=FILES, metadata=METADATA, base="scratch", **options):
    folder.mkdir(exist_ok=True)
    named = BuildOptions(name="digits", layout=folder / "images", **options)
    return load_builder("oci").build(layers=[layer(folder, files), layer(folder, metadata)], base=base, options=named)


def uploads(registry, after=0):
    return [uri for method, uri in registry.requests(*BLOB_ANSWERS, after=after) if "/blobs/uploads/" in uri]


def check_contents(root, files):
    for name, data in files.items():
        assert (root / name.lstrip("/")).read_bytes() == data


def test_a_pushed_image_is_pulled_and_unpacked_equal(start, tmp_path):
    registry = start()
    image = build(tmp_path / "a", repository=f"{registry.host}/models/digits", tag="v1")
    assert image.reference == f"{registry.host}/models/digits@{image.digest}"
    shutil.rmtree(tmp_path / "a" / "images")
    root = unpack_image(reference=image.reference, into=tmp_path / "unpacked")
    check_contents(root, {**FILES, **METADATA})
    assert sorted(path.name for path in root.parent.iterdir()) == [f".{root.name}.lock", root.name]


def test_a_second_push_moves_no_blob(start, tmp_path):
    registry = start()
    first = build(tmp_path / "a", repository=f"{registry.host}/models/digits", tag="v1")
    assert len(uploads(registry)) == 3
    mark = registry.log.stat().st_size
    second = build(tmp_path / "b", repository=f"{registry.host}/models/digits", tag="v1")
    assert second.reference == first.reference
    assert registry.requests(after=mark)
    assert uploads(registry, mark) == []
    assert registry.requests("POST", after=mark) == []


def test_a_new_version_moves_its_changed_layer_only(start, tmp_path):
    registry = start()
    build(tmp_path / "a", repository=f"{registry.host}/models/digits", tag="v1")
    layout = OciLayout(tmp_path / "b" / "images")
    image = build(tmp_path / "b", metadata={"/models/MANIFEST.json": b"[2]"})
    with RegistryClient(host=registry.host) as client:
        pushed = copy_to_registry(
            client=client, source=layout, digest=image.digest, repository="models/digits", tag="v2"
        )
    config = layout.manifest(image.digest)["config"]["size"]
    assert pushed.bytes_sent == layout.blob_path(image.layers[1]).stat().st_size + config


def test_a_tag_is_not_moved(start, tmp_path):
    registry = start()
    first = build(tmp_path / "a", repository=f"{registry.host}/models/digits", tag="v1")
    with pytest.raises(RegistryError, match=f"'v1' names {first.digest} already") as refused:
        build(tmp_path / "b", files={"/models/other": b"other"}, repository=f"{registry.host}/models/digits", tag="v1")
    assert not refused.value.retryable
    with RegistryClient(host=registry.host) as client:
        assert client.find_manifest(repository="models/digits", name="v1") == first.digest
        assert client.find_manifest(repository="models/digits", name="v2") is None


def test_a_base_of_the_same_registry_is_mounted_not_sent(start, tmp_path):
    registry = start()
    below = {"files": {"/usr/base": os.urandom(500_000)}, "metadata": {"/usr/base.json": b"{}"}}
    base = build(tmp_path / "base", **below, repository=f"{registry.host}/models/base")
    mark = registry.log.stat().st_size
    image = build(tmp_path / "a", base=base.reference, repository=f"{registry.host}/models/digits")
    assert image.layers[: len(base.layers)] == base.layers
    assert len(uploads(registry, mark)) == 3, "the own two layers and the config"
    mounted = [uri for _, uri in registry.requests("POST", after=mark) if "mount=" in uri]
    assert any(base.layers[0].removeprefix("sha256:") in uri for uri in mounted)
    root = unpack_image(reference=image.reference, into=tmp_path / "u")
    assert (root / "usr/base").stat().st_size == 500_000
    check_contents(root, FILES)


def test_a_registry_that_is_down_is_retryable_and_works_when_it_is_back(start, tmp_path):
    registry = start()
    repository = f"{registry.host}/models/digits"
    image = build(tmp_path / "a", repository=repository)
    registry.stop()
    with pytest.raises(
        RegistryError, match=rf"{repository}: .*Connection refused.*Check that the registry runs"
    ) as down:
        unpack_image(reference=image.reference, into=tmp_path / "u")
    assert down.value.retryable
    start(port=registry.port)
    assert build(tmp_path / "a", repository=repository).reference == image.reference
    check_contents(unpack_image(reference=image.reference, into=tmp_path / "u"), FILES)


@pytest.mark.parametrize("fault", ["flipped", "truncated", "gone"])
@pytest.mark.parametrize("part", ["layer", "config", "manifest"])
def test_what_is_damaged_in_the_registrys_storage_is_refused(start, tmp_path, part, fault):
    registry = start()
    image = build(tmp_path / "a", repository=f"{registry.host}/models/digits")
    manifest = OciLayout(tmp_path / "a" / "images").manifest(image.digest)
    digest = {"layer": image.layers[0], "config": manifest["config"]["digest"], "manifest": image.digest}[part]
    stored = registry.blob(digest)
    data = stored.read_bytes()
    if fault == "gone":
        stored.unlink()
    else:
        stored.write_bytes(data[:-7] if fault == "truncated" else data[:-7] + b"!" + data[-6:])
    started = time.monotonic()
    with pytest.raises((ImageInvalid, RegistryError), match=f"{registry.host}/models/digits: "):
        unpack_image(reference=image.reference, into=tmp_path / "u")
    assert time.monotonic() - started < 20
    assert [path.name for path in (tmp_path / "u").iterdir()] == [f".{image.digest.removeprefix('sha256:')}.lock"]


def test_a_blob_damaged_in_the_layout_is_refused_by_the_registry(start, tmp_path):
    registry = start()
    image = build(tmp_path / "a")
    layout = OciLayout(tmp_path / "a" / "images")
    path = layout.blob_path(image.layers[0])
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with (
        RegistryClient(host=registry.host) as client,
        pytest.raises(ImageInvalid, match=r"other bytes than the digest names\. Build the image again"),
    ):
        copy_to_registry(client=client, source=layout, digest=image.digest, repository="models/digits")
    path.write_bytes(path.read_bytes()[:-1])
    with (
        RegistryClient(host=registry.host) as client,
        pytest.raises(ImageInvalid, match="it is damaged"),
    ):
        copy_to_registry(client=client, source=layout, digest=image.digest, repository="models/digits")


def test_an_image_that_the_registry_lacks_is_a_terminal_error(start, tmp_path):
    registry = start()
    digest = "sha256:" + "0" * 64
    with pytest.raises(
        RegistryError, match=f"models/digits: the registry has no {digest}.*Check the reference"
    ) as unknown:
        unpack_image(reference=f"{registry.host}/models/digits@{digest}", into=tmp_path / "u")
    assert not unknown.value.retryable
    assert len([uri for _, uri in registry.requests("GET") if "/manifests/" in uri]) == 1, (
        "a terminal refusal was asked for again"
    )


# --- faults on the way ------------------------------------------------------------------------------------------------


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Proxy:
    """Passes connections on to a registry; the first ones meet the listed faults instead."""

    def __init__(self, target_port, faults):
        self._target_port, self._faults = target_port, list(faults)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.met = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            fault = self._faults.pop(0) if self._faults else None
            threading.Thread(target=self._serve, args=(connection, fault), daemon=True).start()

    def _serve(self, connection, fault):
        with connection:
            if fault == "503":
                connection.recv(65536)
                # Before the answer: who gets it may look at once.
                self.met.append(fault)
                connection.sendall(BUSY)
                return
            with socket.create_connection(("127.0.0.1", self._target_port)) as target:
                back = threading.Thread(target=self._pump, args=(target, connection, None), daemon=True)
                back.start()
                if self._pump(connection, target, fault):
                    self.met.append(fault)
                    return
                back.join(10)

    @staticmethod
    def _pump(source, sink, fault):
        """Pass bytes on; return True if the connection was cut after ``fault`` bytes."""
        passed = 0
        try:
            while data := source.recv(65536):
                passed += len(data)
                if isinstance(fault, int) and passed > fault:
                    return True
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return False


def test_a_busy_registry_and_a_connection_cut_within_a_blob_are_tried_again(start, tmp_path):
    registry = start()
    image = build(tmp_path / "a")
    layout = OciLayout(tmp_path / "a" / "images")
    proxy = Proxy(registry.port, ["503", 300_000, "503"])
    with RegistryClient(host=proxy.host, pause_seconds=0.01) as client:
        # One upload at a time, so that each fault meets the connection that it is meant for.
        copy_to_registry(client=client, source=layout, digest=image.digest, repository="models/digits", parallel=1)
    proxy.close()
    assert proxy.met == ["503", 300_000, "503"]
    check_contents(unpack_image(reference=f"{registry.host}/models/digits@{image.digest}", into=tmp_path / "u"), FILES)


def test_a_registry_that_stays_busy_is_given_up_and_retryable(start, tmp_path):
    registry = start()
    proxy = Proxy(registry.port, ["503"] * 10)
    with (
        RegistryClient(host=proxy.host, attempts=3, pause_seconds=0.01) as client,
        pytest.raises(RegistryError, match="answers 503 Service Unavailable") as busy,
    ):
        client.has_blob(repository="models/digits", digest="sha256:" + "0" * 64)
    proxy.close()
    assert busy.value.retryable
    assert proxy.met == ["503"] * 3


def test_a_large_blob_passes_in_constant_memory(start, tmp_path):
    registry = start()
    size = 96 * 1024 * 1024
    layout = OciLayout(tmp_path / "images")
    blob = layout.write_blob((os.urandom(1 << 20) for _ in range(96)), media_type="application/octet-stream")
    assert blob.size == size
    tracemalloc.start()
    hasher = hashlib.sha256()
    with RegistryClient(host=registry.host) as client:
        sent = client.push_blob(repository="models/digits", blob=source_blob(layout, blob))
        for piece in client.stream_blob(repository="models/digits", descriptor=blob):
            hasher.update(piece)
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sent == size
    assert f"sha256:{hasher.hexdigest()}" == blob.digest
    assert peak < 24 * 1024 * 1024


# --- login ------------------------------------------------------------------------------------------------------------

# bcrypt of "s3cret"


@pytest.fixture
def token_auth(tmp_path):
    """A token server that grants what is asked for to me:s3cret, and the registry's settings that trust it."""
    import jwt
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "token server")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain = [b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()]
    (tmp_path / "root.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    class Tokens(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            login = b64decode(self.headers.get("Authorization", "").removeprefix("Basic ")).decode()
            if login != "me:s3cret":
                self.send_response(401)
                self.end_headers()
                return
            query = parse_qs(urlsplit(self.path).query)
            access = []
            for scope in query.get("scope", []):
                kind, repository, actions = scope.split(":")
                access.append({"type": kind, "name": repository, "actions": actions.split(",")})
            moment = int(time.time())
            claims = {"iss": "tests", "sub": "me", "aud": query["service"][0], "jti": "1", "access": access}
            times = {"iat": moment, "nbf": moment - 5, "exp": moment + 300}
            token = jwt.encode({**claims, **times}, key, algorithm="RS256", headers={"x5c": chain})
            body = json.dumps({"token": token}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    realm = f"http://127.0.0.1:{server.server_port}/token"
    bundle = str(tmp_path / "root.pem")
    yield {"token": {"realm": realm, "service": "registry", "issuer": "tests", "rootcertbundle": bundle}}
    server.shutdown()
    server.server_close()
    thread.join(10)


@pytest.fixture(params=["basic", "token"])
def auth(request, tmp_path):
    return basic_auth(tmp_path) if request.param == "basic" else request.getfixturevalue("token_auth")


def test_a_login_is_answered_and_a_wrong_one_is_terminal_and_not_shown(start, tmp_path, auth):
    registry = start(auth=auth)
    repository = f"{registry.host}/models/digits"
    for login in ({}, {"username": "me", "password": "wr0ng"}):
        with pytest.raises(RegistryError, match=f"{repository}: the registry refuses access.*Check the") as refused:
            build(tmp_path / "a", repository=repository, **login)
        assert not refused.value.retryable
        assert "wr0ng" not in str(refused.value)
    base = build(tmp_path / "base", repository=f"{registry.host}/models/base", username="me", password="s3cret")
    mark = registry.log.stat().st_size
    image = build(tmp_path / "a", repository=repository, base=base.reference, username="me", password="s3cret")
    assert len(uploads(registry, mark)) == 1, "the config; all layers are mounted from the base"
    root = unpack_image(reference=image.reference, into=tmp_path / "u", username="me", password="s3cret")
    check_contents(root, FILES)
    with pytest.raises(RegistryError, match="refuses access"):
        unpack_image(reference=image.reference, into=tmp_path / "other")


def test_a_login_is_not_sent_to_the_base_of_another_registry(start, tmp_path):
    public = start()
    base = build(tmp_path / "base", repository=f"{public.host}/models/base")
    seen = []

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.headers.get("Authorization"))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="other"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    reference = base.reference.replace(public.host, f"127.0.0.1:{other.server_port}")
    with pytest.raises(RegistryError, match="refuses access"):
        build(tmp_path / "a", base=reference, repository=f"{public.host}/x", username="me", password="s3cret")
    other.shutdown()
    other.server_close()
    assert seen
    assert set(seen) == {None}


# --- other tools ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (shutil.which("skopeo") and shutil.which("umoci")), reason="skopeo and umoci are not installed")
def test_other_tools_read_the_image(start, tmp_path):
    registry = start()
    image = build(tmp_path / "a", repository=f"{registry.host}/models/digits", tag="v1")
    source, copy = f"docker://{registry.host}/models/digits@{image.digest}", tmp_path / "copy"
    command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", source, f"oci:{copy}:digits"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    subprocess.run(
        ["umoci", "raw", "unpack", "--rootless", "--image", f"{copy}:digits", str(tmp_path / "root")],
        check=True,
        capture_output=True,
        timeout=60,
    )
    check_contents(tmp_path / "root", {**FILES, **METADATA})
    own = tmp_path / "a" / "images"
    command = ["skopeo", "--insecure-policy", "inspect", "--raw", f"oci:{own}:digits:v1"]
    raw = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    assert "sha256:" + hashlib.sha256(raw).hexdigest() == image.digest
