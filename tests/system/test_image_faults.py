"""What goes wrong on the way to a registry ends in the right image or one clear error, and no tag names half an image.

The registry is Debian's `docker-registry`, behind a proxy that makes the fault happen.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from faulty_registry import Fault, FaultyRegistry
from modelway.builders.base import BuildOptions, load_builder
from modelway.errors import DigestMismatch, DiskFull, ImageInvalid, NotWritable, RegistryError, disk_full
from modelway.oci import retries
from modelway.oci.images import unpack_image
from modelway.oci.registry import RegistryClient
from registry import Registry, needs_registry

from tests.image_samples import image_layers
from tests.small_device import small_device

pytestmark = [pytest.mark.system, needs_registry]
WEIGHTS = {f"/models/model/{name}.safetensors": name.encode() * 100_000 for name in ("a", "b", "c")}
SMALL = {"/models/outputs/model.yml": b"{}"}
REPOSITORY = "models/digits"
UPLOAD = "/blobs/uploads/.*digest="


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    """Each pause is recorded, and takes no time."""
    pauses = []
    monkeypatch.setattr(retries, "time", SimpleNamespace(sleep=pauses.append))
    return pauses


@pytest.fixture
def pauses(_short_pauses):
    return _short_pauses


@pytest.fixture
def behind(shared):
    """Starts proxies before a registry, each test with repositories of its own."""
    running = []

    def start(*faults, registry=shared):
        running.append(FaultyRegistry(registry.port, *faults))
        return running[-1]

    yield start
    for each in running:
        each.stop()


def build(folder, host, repository, *, weights=WEIGHTS, made=None, **options):
    options.setdefault("tag", "v1")
    named = BuildOptions(name="digits", repository=f"{host}/{repository}", known_layers=folder / "layers", **options)
    made = image_layers(folder, weights, SMALL) if made is None else made
    return load_builder("oci").build(layers=made, base="scratch", options=named)


def tag_of(shared, repository, tag="v1"):
    with RegistryClient(host=shared.host) as client:
        return client.find_manifest(repository=repository, name=tag)


def check_image(shared, repository, image, folder, weights=WEIGHTS):
    assert tag_of(shared, repository) == image.digest
    root = unpack_image(reference=f"{shared.host}/{repository}@{image.digest}", into=folder / "unpacked")
    for name, data in {**weights, **SMALL}.items():
        assert (root / name.lstrip("/")).read_bytes() == data


# --- the registry refuses for a while ---------------------------------------------------------------------------------

STEPS = {
    "the tag": ("HEAD", "/manifests/v1"),
    "a look for a blob": ("HEAD", "/blobs/sha256"),
    "the start of an upload": ("POST", "/blobs/uploads/"),
    "an upload": ("PUT", UPLOAD),
    "the manifest": ("PUT", "/manifests/sha256"),
    "setting the tag": ("PUT", "/manifests/v1"),
}


@pytest.mark.parametrize("status", [500, 503])
@pytest.mark.parametrize("step", STEPS)
def test_a_registry_that_fails_for_a_moment_gets_the_image(behind, shared, repository, tmp_path, step, status):
    proxy = behind(Fault(*STEPS[step], times=2, status=status))
    image = build(tmp_path, proxy.host, repository)
    assert len(proxy.met) == 2
    check_image(shared, repository, image, tmp_path)


def test_one_that_continues_failing_is_a_retryable_error_and_sets_no_tag(behind, shared, repository, tmp_path):
    proxy = behind(Fault("PUT", UPLOAD, times=1000, status=502))
    with pytest.raises(RegistryError, match=rf"{proxy.host}/{repository}: the registry answers 502 Bad Gateway") as bad:
        build(tmp_path, proxy.host, repository)
    assert bad.value.retryable
    assert tag_of(shared, repository) is None


def test_the_next_attempt_comes_no_sooner_than_the_registry_says(behind, shared, repository, tmp_path, pauses):
    proxy = behind(Fault("PUT", UPLOAD, status=429, headers={"Retry-After": "17"}))
    image = build(tmp_path, proxy.host, repository)
    assert pauses == [17.0]
    check_image(shared, repository, image, tmp_path)


def test_a_registry_that_wants_a_long_pause_is_left_to_the_next_attempt_of_the_task(
    behind, repository, tmp_path, pauses
):
    proxy = behind(Fault("POST", "/uploads/", times=1000, status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(RegistryError, match="answers 429 Too Many Requests") as busy:
        build(tmp_path, proxy.host, repository, platform={"parallel": 1})
    assert busy.value.retryable
    assert pauses == []


@pytest.fixture
def token_server():
    """A server of tokens that are good for anything; counts them."""
    given = []

    class Tokens(BaseHTTPRequestHandler):
        def do_GET(self):
            given.append(self.path)
            body = json.dumps({"token": f"token{len(given)}", "expires_in": 300}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/token", given
    server.shutdown()
    server.server_close()


def test_a_token_that_is_refused_on_the_way_is_renewed(behind, shared, repository, tmp_path, token_server):
    realm, given = token_server
    challenge = {"WWW-Authenticate": f'Bearer realm="{realm}",service="registry"'}
    proxy = behind(
        Fault("HEAD", "/manifests/v1", status=401, headers=challenge),
        Fault("PUT", UPLOAD, status=401, headers=challenge),
        Fault("PUT", "/manifests/sha256", status=401, headers=challenge),
    )
    image = build(tmp_path, proxy.host, repository, platform={"parallel": 1})
    assert len(proxy.met) == 3
    assert sum("pull%2Cpush" in path for path in given) >= 2
    check_image(shared, repository, image, tmp_path)


def test_a_registry_that_refuses_every_token_is_a_terminal_error(behind, shared, repository, tmp_path, token_server):
    challenge = {"WWW-Authenticate": f'Bearer realm="{token_server[0]}",service="registry"'}
    proxy = behind(Fault("PUT", UPLOAD, times=1000, status=401, headers=challenge))
    with pytest.raises(RegistryError, match=r"refuses access \(401\)\. Check the registry's connection") as refused:
        build(tmp_path, proxy.host, repository)
    assert not refused.value.retryable
    assert tag_of(shared, repository) is None


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_slow_registry_gets_the_image(behind, shared, repository, tmp_path):
    proxy = behind(Fault("PUT", UPLOAD, times=2, pause=0.05), Fault("POST", "/uploads/", silent=0.3))
    image = build(tmp_path, proxy.host, repository)
    assert len(proxy.met) == 3
    check_image(shared, repository, image, tmp_path)


def test_a_registry_that_falls_silent_is_given_up(behind, repository):
    proxy = behind(Fault("HEAD", "/blobs/", times=2, silent=2))
    with (
        RegistryClient(host=proxy.host, attempts=2, timeout_seconds=0.2) as client,
        pytest.raises(RegistryError, match="the registry does not answer .*timed out") as silent,
    ):
        client.has_blob(repository=repository, digest="sha256:" + "0" * 64)
    assert silent.value.retryable


# --- broken off -------------------------------------------------------------------------------------------------------


def test_a_connection_cut_within_a_blob_is_made_again(behind, shared, repository, tmp_path):
    proxy = behind(Fault("PUT", UPLOAD, times=2, cut_after=64 * 1024))
    image = build(tmp_path, proxy.host, repository)
    assert len(proxy.met) == 2
    check_image(shared, repository, image, tmp_path)


def test_a_build_killed_within_an_upload_continues_with_the_blobs_that_are_missing(
    behind, shared, repository, tmp_path
):
    reached = threading.Event()

    def hang():
        reached.set()
        time.sleep(60)

    # The second upload never ends.
    proxy = behind()
    sent = []

    def at_upload():
        sent.append(1)
        if len(sent) == 2:
            hang()

    proxy.faults.append(Fault("PUT", UPLOAD, times=2, before=at_upload))
    arguments = (tmp_path, proxy.host, repository)
    process = multiprocessing.get_context("fork").Process(
        target=build, args=arguments, kwargs={"platform": {"parallel": 1}}
    )
    process.start()
    assert reached.wait(30)
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)
    assert tag_of(shared, repository) is None
    before = len(proxy.requests)
    image = build(*arguments)
    assert sum(1 for method, path in proxy.requests[before:] if method == "PUT" and "/uploads/" in path) == 4
    check_image(shared, repository, image, tmp_path)


# --- wrong answers ----------------------------------------------------------------------------------------------------

OTHER = "sha256:" + "0" * 64


@pytest.mark.parametrize("step", ["the manifest", "setting the tag"])
def test_a_wrong_digest_in_the_answer_is_refused(behind, shared, repository, tmp_path, step):
    proxy = behind(Fault(*STEPS[step], answered={"Docker-Content-Digest": OTHER}))
    with pytest.raises(RegistryError, match=rf"the registry stored sha256:\w+ as {OTHER}") as wrong:
        build(tmp_path, proxy.host, repository)
    assert not wrong.value.retryable
    if step == "the manifest":
        assert tag_of(shared, repository) is None
    image = build(tmp_path, proxy.host, repository)
    check_image(shared, repository, image, tmp_path)


def test_a_blob_whose_upload_is_answered_with_another_digest_is_refused(behind, shared, repository, tmp_path):
    proxy = behind(Fault("PUT", UPLOAD, answered={"Docker-Content-Digest": OTHER}))
    with pytest.raises(RegistryError, match=f"as {OTHER}"):
        build(tmp_path, proxy.host, repository)
    assert tag_of(shared, repository) is None


def test_a_blob_that_vanishes_is_sent_again(behind, shared, repository, tmp_path):
    links = shared.storage / "docker/registry/v2/repositories" / repository / "_layers/sha256"
    proxy = behind(Fault("PUT", "/manifests/sha256", before=lambda: shutil.rmtree(next(links.iterdir()))))
    image = build(tmp_path, proxy.host, repository)
    assert len(proxy.met) == 1
    assert proxy.count("PUT", UPLOAD) == 2 * 5
    check_image(shared, repository, image, tmp_path)


def test_blobs_that_go_on_vanishing_are_an_error_and_set_no_tag(behind, shared, repository, tmp_path):
    links = shared.storage / "docker/registry/v2/repositories" / repository / "_layers/sha256"
    proxy = behind(Fault("PUT", "/manifests/", times=1000, before=lambda: shutil.rmtree(next(links.iterdir()))))
    with pytest.raises(RegistryError, match="the registry lacks blobs of the image") as gone:
        build(tmp_path, proxy.host, repository)
    assert gone.value.retryable
    assert tag_of(shared, repository) is None


def test_a_blob_that_vanished_after_the_push_is_sent_by_the_next_build(behind, shared, repository, tmp_path):
    proxy = behind()
    image = build(tmp_path, proxy.host, repository)
    links = shared.storage / "docker/registry/v2/repositories" / repository / "_layers/sha256"
    shutil.rmtree(links / image.layers[1].removeprefix("sha256:"))
    assert build(tmp_path, proxy.host, repository) == image
    assert proxy.count("PUT", UPLOAD) == 6
    check_image(shared, repository, image, tmp_path)


# --- disks ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def device(tmp_path):
    """A device of 1 MB."""
    with small_device(tmp_path, size="1m") as place:
        yield place


def test_a_registry_whose_disk_is_full_gets_no_tag_and_the_image_once_there_is_space(device, tmp_path, repository):
    registry = Registry(device)
    try:
        weights = {name: data * 5 for name, data in WEIGHTS.items()}
        with pytest.raises(RegistryError, match=f"{registry.host}/{repository}: the registry answers 5") as full:
            build(tmp_path, registry.host, repository, weights=weights)
        assert full.value.retryable
        assert tag_of(registry, repository) is None
        # Beside the image, what was sent in vain stays in the registry: a piece of each attempt.
        subprocess.run(["mount", "-o", "remount,size=64m", str(device)], check=True)
        image = build(tmp_path, registry.host, repository, weights=weights)
        check_image(registry, repository, image, tmp_path, weights)
    finally:
        registry.stop()


def test_a_blob_whose_link_was_cut_off_by_a_full_disk_is_sent_again(behind, shared, repository, tmp_path):
    proxy = behind()
    image = build(tmp_path, proxy.host, repository)
    links = shared.storage / "docker/registry/v2/repositories" / repository / "_layers/sha256"
    (links / image.layers[1].removeprefix("sha256:") / "link").write_bytes(b"")
    assert build(tmp_path, proxy.host, repository) == image
    assert proxy.count("PUT", UPLOAD) == 6
    check_image(shared, repository, image, tmp_path)


def test_a_push_needs_no_disk_of_this_machine_and_a_layout_says_that_it_is_full(behind, shared, device, tmp_path):
    filler = device / "others"
    filler.write_bytes(bytes(900_000))
    image = build(tmp_path, shared.host, "models/no-disk", tag="v1")
    check_image(shared, "models/no-disk", image, tmp_path)
    options = BuildOptions(name="digits", layout=device / "images", tag="v1")
    with pytest.raises(NotWritable, match=r"the folder cannot be written \(No space left on device\)") as full:
        load_builder("oci").build(layers=image_layers(tmp_path, WEIGHTS, SMALL), base="scratch", options=options)
    assert isinstance(disk_full(full.value), DiskFull)


# --- two at once ------------------------------------------------------------------------------------------------------


def test_two_builds_of_one_version_at_once_make_one_image(behind, shared, repository, tmp_path):
    proxy = behind(Fault("PUT", UPLOAD, times=2, pause=0.02))
    folders = [tmp_path / "one", tmp_path / "two"]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda folder: build(folder, proxy.host, repository), folders)
    assert first == second
    check_image(shared, repository, first, tmp_path)


def test_of_two_different_images_under_one_tag_the_later_is_refused(behind, shared, repository, tmp_path):
    """Both find the tag free; the other one is tagged while this one sends its layers."""
    other = {"/models/model/a.safetensors": b"other" * 1000}
    built = []

    def interfere():
        built.append(build(tmp_path / "other", shared.host, repository, weights=other))

    proxy = behind(Fault("PUT", "/manifests/sha256", before=interfere))
    with pytest.raises(RegistryError, match="the tag 'v1' names .* already") as refused:
        build(tmp_path / "one", proxy.host, repository)
    assert not refused.value.retryable
    assert tag_of(shared, repository) == built[0].digest


def test_a_tag_that_is_moved_at_the_same_moment_is_an_error(behind, shared, repository, tmp_path):
    """No registry of the specification sets a tag only if it is new, so the loss is seen afterwards."""
    other = {"/models/model/a.safetensors": b"other" * 1000}
    proxy = behind()
    looks = []

    def interfere():
        looks.append(1)
        if len(looks) == 3:
            # After the tag was set: a builder that is not ours moves it.
            moved = build(tmp_path / "other", shared.host, repository, weights=other, tag="elsewhere")
            with RegistryClient(host=shared.host) as client:
                data = client.pull_manifest(repository=repository, digest=moved.digest)
                kind = "application/vnd.oci.image.manifest.v1+json"
                client.replace_tag(repository=repository, tag="v1", manifest=data, media_type=kind, digest=moved.digest)

    proxy.faults.append(Fault("HEAD", "/manifests/v1", times=3, before=interfere))
    with pytest.raises(RegistryError, match="the tag 'v1' names .* already"):
        build(tmp_path / "one", proxy.host, repository)


# --- files that change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["a byte", "shorter", "gone"])
@pytest.mark.parametrize("when", ["after it was hashed", "after an earlier build"])
def test_a_file_that_changes_while_it_is_read_is_named(behind, shared, repository, tmp_path, change, when):
    made = image_layers(tmp_path, WEIGHTS, SMALL)
    path = made[1].files[0].source

    def spoil():
        data = path.read_bytes()
        path.unlink()
        if change != "gone":
            path.write_bytes(data[:-1] + (b"!" if change == "a byte" else b""))

    proxy = behind()
    if when == "after an earlier build":
        build(tmp_path, proxy.host, f"{repository}-before", made=made)
        spoil()
    else:
        proxy.faults.append(Fault("HEAD", "/blobs/", before=spoil))
    with pytest.raises(DigestMismatch, match=r"b\.safetensors: .*Run the freeze stage again"):
        build(tmp_path, proxy.host, repository, made=made)
    assert tag_of(shared, repository) is None
    image = build(tmp_path, proxy.host, repository)
    check_image(shared, repository, image, tmp_path)


def test_a_remembered_digest_that_is_wrong_is_forgotten(behind, shared, repository, tmp_path):
    build(tmp_path, shared.host, f"{repository}-before")
    for entry in (tmp_path / "layers").iterdir():
        entry.write_text(entry.read_text().replace("sha256:", "sha256:0")[:-1].replace('", "size"', '"X"'))
    image = build(tmp_path, shared.host, repository)
    check_image(shared, repository, image, tmp_path)
    (entry, *_) = sorted((tmp_path / "layers").iterdir())
    digest = entry.read_text().partition("sha256:")[2][:64]
    entry.write_text(entry.read_text().replace(digest, hashlib.sha256(b"other").hexdigest()))
    with pytest.raises(ImageInvalid, match=r"the recorded digest of a layer was wrong, and is removed"):
        build(tmp_path, shared.host, f"{repository}-after")
    image = build(tmp_path, shared.host, f"{repository}-after")
    check_image(shared, f"{repository}-after", image, tmp_path)
