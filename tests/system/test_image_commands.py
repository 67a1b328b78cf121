"""`modelway image …` against a real registry, for a version that the lineage has."""

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from modelway.artifacts.archive import Manifest, write_archive
from modelway.artifacts.store import ArtifactStore
from modelway.cli import main
from modelway.errors import RegistryError
from modelway.lineage.records.version import FileRecord
from modelway.lineage.store import open_lineage
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import Descriptor, bytes_digest
from modelway.oci.registry import RegistryClient
from modelway.operators.build_image import BuildImageOperator
from modelway.runs.messages.version import RegisteredVersion
from registry import Registry, needs_registry

from tests.image_samples import entry, link, make_image, tar
from tests.lineage_samples import make_record

pytestmark = [pytest.mark.system, needs_registry]
FILES = {
    "model/model.onnx": b"program",
    "model/model-00001.safetensors": b"first" * 30_000,
    "model/model-00002.safetensors": b"second" * 30_000,
    "golden/inputs.safetensors": b"golden",
    "outputs/model.yml": b"{}",
    "outputs/meta.yml": b"{}",
}


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    monkeypatch.setenv("MODELWAY_HOME", str(folder))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    for name in ("MODELWAY_ARTIFACT_ROOT", "MODELWAY_LINEAGE_URL", "MODELWAY_SIGNING_KEY", "MODELWAY_SERVER_IMAGE"):
        monkeypatch.delenv(name, raising=False)
    folder.mkdir()
    return folder


def register(home, *, run_id="manual__1", files=FILES):
    """Register a version whose archive has these files."""
    place = home / run_id
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    document = {"commit": "c0ffee" * 6 + "c0de", "code_digest": "sha256:" + "1" * 64}
    made: Manifest = write_archive(
        folder=place, documents={"inputs/git_commit.yml": document}, to=home / f"{run_id}.zip"
    )
    archive = ArtifactStore((home / "artifacts").as_uri()).put(home / f"{run_id}.zip", model="digits")
    records = tuple(
        FileRecord(path=member.path, digest=f"sha256:{member.sha256}", size=member.size, role=member.role)
        for member in made.members
    )
    record = make_record(
        run_id,
        archive_uri=archive.uri,
        archive_digest=archive.digest,
        archive_size=archive.size,
        model_digest=made.model_digest,
        files=records,
    )
    return open_lineage(f"sqlite:///{home / 'lineage.db'}").register(record)


@pytest.fixture
def run(capsys):
    """Runs a command; returns what it printed, or fails as its status says."""

    def command(*words, status=0):
        assert main(["image", *map(str, words)]) == status
        shown = capsys.readouterr()
        return shown.err if status else shown.out

    return command


def test_a_registered_version_is_built_inspected_and_verified(shared, home, run, tmp_path):
    register(home)
    repository = f"{shared.host}/models/by-hand"
    built = run("build", "digits", "1", "--repository", repository)
    reference = built.split()[0]
    assert reference.startswith(f"{repository}@sha256:")
    assert not (home / "images").exists(), "a layout is written only where it is asked for"
    assert run("build", "digits", "latest", "--repository", repository) == built

    shown = json.loads(run("inspect", f"{repository}:v1", "--json"))
    assert shown["digest"] == reference.partition("@")[2]
    assert [layer["annotations"].get("io.modelway.path") for layer in shown["layers"]] == [
        "/models/model/model-00001.safetensors",
        "/models/model/model-00002.safetensors",
        None,
    ]
    annotations = shown["annotations"]
    assert annotations["org.opencontainers.image.title"] == "digits"
    assert annotations["org.opencontainers.image.version"] == "1"
    assert annotations["org.opencontainers.image.revision"] == "c0ffee" * 6 + "c0de"
    assert annotations["io.modelway.version"] == "digits@1"
    assert annotations["io.modelway.archive.digest"].startswith("sha256:")
    assert [kind for kind, _ in shown["referrers"]] == ["application/vnd.in-toto+json"]
    text = run("inspect", reference)
    assert "io.modelway.version" in text
    assert "/models/model/model-00001.safetensors" in text

    verified = run("verify", reference, "digits", "1")
    assert "3 layers and 6 files are what their digests name" in verified
    assert "5 files are those of digits@1" in verified
    record = open_lineage(f"sqlite:///{home / 'lineage.db'}").version("digits", 1)
    assert [image.reference for image in record.images] == [reference]


def test_without_a_repository_the_image_is_in_a_layout_and_pulled_from_there(home, run, tmp_path):
    register(home)
    reference = run("build", "digits", "v1").split()[0]
    assert reference.startswith(f"oci-layout:{home}/images@sha256:")
    folder = Path(run("pull", reference, tmp_path / "pulled").strip())
    for name in ("model/model.onnx", "model/model-00002.safetensors", "golden/inputs.safetensors"):
        assert (folder / "models" / name).read_bytes() == FILES[name]
    assert not (folder / "models/outputs/meta.yml").exists()
    assert "3 layers and 6 files are" in run("verify", reference)


def test_a_copy_has_the_digest_the_referrers_and_no_byte_twice(shared, home, run, tmp_path):
    register(home)
    reference = run("build", "digits", "1", "--repository", f"{shared.host}/models/original").split()[0]
    copied = run("copy", reference, f"{shared.host}/models/copy:release")
    assert copied == f"{shared.host}/models/copy@{reference.partition('@')[2]} (0 bytes sent)\n"
    assert json.loads(run("inspect", f"{shared.host}/models/copy:release", "--json"))["referrers"]
    other = Registry(_made(tmp_path / "other"))
    try:
        run("copy", reference, f"{other.host}/mirror/digits:v1")
        assert f"{other.host}/mirror/digits@{reference.partition('@')[2]}" in run(
            "copy", f"{other.host}/mirror/digits:v1", f"{other.host}/mirror/digits:again"
        )
        assert "are those of digits@1" in run("verify", f"{other.host}/mirror/digits:v1", "digits", "1")
    finally:
        other.stop()
    layout = run("copy", reference, f"oci-layout:{tmp_path}/layout").strip()
    assert layout == f"oci-layout:{tmp_path}/layout@{reference.partition('@')[2]}"
    assert "are what their digests name" in run("verify", layout)
    run("copy", layout, f"{shared.host}/models/back:v1")
    assert json.loads(run("inspect", f"{shared.host}/models/back:v1", "--json"))["digest"] == layout.partition("@")[2]


def test_the_difference_says_what_a_node_fetches(shared, home, run):
    register(home)
    register(home, run_id="manual__2", files={**FILES, "model/model-00002.safetensors": b"trained" * 20_000})
    repository = f"{shared.host}/models/difference"
    for version in (1, 2):
        run("build", "digits", version, "--repository", repository)
    text = run("diff", f"{repository}:v1", f"{repository}:v2")
    assert "org.opencontainers.image.version: 1 → 2" in text
    found = json.loads(run("diff", f"{repository}:v1", f"{repository}:v2", "--json"))
    same = [layer["annotations"].get("io.modelway.path") for layer in found["same"]]
    # The last layer has the digest of each file.
    assert same == ["/models/model/model-00001.safetensors"]
    assert len(found["added"]) == len(found["removed"]) == 2
    assert sum(layer["size"] for layer in found["unpacked_again"]) < 20_000


def test_what_is_damaged_or_of_another_version_is_refused(shared, home, run):
    register(home)
    register(home, run_id="manual__2", files={**FILES, "model/model.onnx": b"other"})
    repository = f"{shared.host}/models/damaged"
    reference = run("build", "digits", "1", "--repository", repository).split()[0]
    assert "'model/model.onnx' of digits@2 has sha256:" in run("verify", reference, "digits", "2", status=1)
    shown = json.loads(run("inspect", reference, "--json"))
    blob = shared.blob(shown["layers"][0]["digest"])
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-7] + b"!" + whole[-6:])
    assert f"layer {shown['layers'][0]['digest']} is damaged" in run("verify", reference, status=1)
    blob.write_bytes(whole)
    assert "there is no tag 'v9'" in run("inspect", f"{repository}:v9", status=1)
    assert "does not pin an image" in run("inspect", "digits@v1", status=1)


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (entry("models/model/.wh.model.onnx"), "is missing"),
        (entry("models/.wh..wh..opq"), "is missing"),
        (link("models/model/model.onnx", "/elsewhere"), "is missing"),
        (entry("other/model/model.onnx", b"evil"), f"has {bytes_digest(b'evil')} instead"),
    ],
    ids=["removed", "emptied", "linked", "beside"],
)
def test_files_that_a_container_does_not_see_are_not_those_of_a_version(home, run, tmp_path, member, problem):
    register(home)
    built = OciLayout(home / "images")
    digest = run("build", "digits", "1").split()[0].partition("@")[2]
    layers = [built.read_blob(Descriptor.from_dict(each, where="")) for each in built.manifest(digest)["layers"]]
    layout = OciLayout(tmp_path / "changed")
    assert "are those of digits@1" in run("verify", make_image(layout, *layers), "digits", "1")
    refused = run("verify", make_image(layout, *layers, tar(member)), "digits", "1", status=1)
    assert "of digits@1 " in refused
    assert problem in refused


def test_a_signature_is_checked(shared, home, run, tmp_path, monkeypatch):
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)], check=True)
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], check=True)
    register(home)
    repository = f"{shared.host}/models/signed"
    reference = run("build", "digits", "1", "--repository", repository).split()[0]
    assert "no signature refers to the image" in run("verify", reference, "--key", public, status=1)
    monkeypatch.setenv("MODELWAY_SIGNING_KEY", str(private))
    run("build", "digits", "1", "--repository", repository)
    assert f"signed with {public}" in run("verify", reference, "--key", public)
    # A signed statement of another image does not count, wherever it is attached.
    other = f"{shared.host}/models/other"
    layout = run("copy", reference, f"oci-layout:{tmp_path}/layout").strip()
    run("copy", layout, f"{other}:v1")
    assert "no signature refers to the image" in run("verify", f"{other}:v1", "--key", public, status=1)


def test_mirrors_hide_no_signature(shared, home, run, tmp_path, monkeypatch):
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(private)], check=True)
    subprocess.run(["openssl", "pkey", "-in", str(private), "-pubout", "-out", str(public)], check=True)
    register(home)
    monkeypatch.setenv("MODELWAY_SIGNING_KEY", str(private))
    reference = run("build", "digits", "1", "--repository", f"{shared.host}/models/mirrored").split()[0]
    monkeypatch.setenv("MODELWAY_REGISTRY_MIRRORS", f"{shared.host}={shared.host}/hub")
    assert len(json.loads(run("inspect", reference, "--json"))["referrers"]) == 1
    assert f"signed with {public}" in run("verify", reference, "--key", public)
    assert "(0 bytes sent)" in run("copy", reference, f"{shared.host}/models/mirrored-copy:v1"), "blobs are mounted"
    assert f"signed with {public}" in run("verify", f"{shared.host}/models/mirrored-copy:v1", "--key", public)


def test_a_tag_of_another_version_is_refused_and_the_server_image_must_be_named(shared, home, run, monkeypatch):
    register(home)
    register(home, run_id="manual__2", files={**FILES, "model/model.onnx": b"other"})
    repository = f"{shared.host}/models/refused"
    reference = run("build", "digits", "1", "--repository", repository).split()[0]
    refused = run("build", "digits", "2", "--repository", repository, "--tag", "v1", status=1)
    assert f"the tag 'v1' names {reference.partition('@')[2]} already" in refused
    refused = run("build", "digits", "2", "--repository", repository, "--base", "server", status=1)
    assert "MODELWAY_SERVER_IMAGE: the base 'server' is the image of the model server" in refused
    monkeypatch.setenv("MODELWAY_SERVER_IMAGE", reference)
    on_server = run("build", "digits", "2", "--repository", repository, "--base", "server").split()[0]
    shown = json.loads(run("inspect", on_server, "--json"))
    assert shown["annotations"]["org.opencontainers.image.base.digest"] == reference.partition("@")[2]
    assert len(shown["layers"]) == 6


@pytest.fixture
def curious():
    """A registry that requires a login for everything, and remembers which one it got."""
    received = []

    class Curious(BaseHTTPRequestHandler):
        def do_HEAD(self):
            received.append(self.headers.get("Authorization"))
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="curious"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = do_HEAD

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Curious)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield SimpleNamespace(host=f"127.0.0.1:{server.server_port}", received=received)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("named", ["registry.example.com", "curious"])
def test_the_login_of_a_registry_is_sent_to_no_other_that_an_image_is_pushed_to(curious, home, run, monkeypatch, named):
    register(home)
    host = curious.host if named == "curious" else named
    monkeypatch.setenv("AIRFLOW_CONN_MODELWAY_REGISTRY", f"docker://robot:s3cret@{host}")
    repository = f"{curious.host}/models/digits"
    assert "refuses access" in run("build", "digits", "1", "--repository", repository, status=1)
    found = open_lineage(f"sqlite:///{home / 'lineage.db'}").version("digits", 1).summary
    version = RegisteredVersion.of(found, blocked_reason=None, requested=True).to_xcom()
    by_command = set(curious.received)
    curious.received.clear()
    with pytest.raises(RegistryError, match="refuses access"):
        BuildImageOperator(task_id="build", version=version, repository=repository).run({})
    assert set(curious.received) == by_command
    assert any(by_command) == (named == "curious")


def test_a_damaged_archive_is_refused_until_a_good_copy_is_there_again(shared, home, run):
    register(home)
    (archive,) = (path for path in (home / "artifacts").rglob("*") if path.is_file())
    data = archive.read_bytes()
    place = data.index(b"second" * 100)
    archive.unlink()
    archive.write_bytes(data[:place] + b"S" + data[place + 1 :])
    repository = f"{shared.host}/models/in-place"
    assert "the stored bytes are sha256:" in run("build", "digits", "1", "--repository", repository, status=1)
    with RegistryClient(host=shared.host) as client:
        assert client.find_manifest(repository="models/in-place", name="v1") is None
    archive.write_bytes(data)
    run("build", "digits", "1", "--repository", repository)
    assert "are those of digits@1" in run("verify", f"{repository}:v1", "digits", "1")


def _made(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
