"""The image layout folder and the unpacking of images: whole, checked, and never outside the folder."""

import gzip
import json
import multiprocessing
import os
import signal
import tarfile
from functools import partial

import pytest
from modelway.errors import DigestMismatch, ImageInvalid, NotWritable
from modelway.oci import unpack as oci_unpack
from modelway.oci.images import unpack_image
from modelway.oci.layout import OciLayout
from modelway.oci.manifest import (
    INDEX,
    LAYER_GZIP,
    LAYER_TAR,
    MANIFEST,
    Descriptor,
    RegistryReference,
    bytes_digest,
    canonical_json,
    parse_reference,
)
from modelway.oci.model_folder import fetch_model_folder

from tests.image_samples import entry, folder, link, make_image, tar


def visible(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def layout(tmp_path):
    return OciLayout(tmp_path / "images")


# --- the layout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["bytes", "file", "pieces"])
def test_a_blob_is_named_by_its_digest_and_read_back(layout, tmp_path, form):
    data = b"weights" * 1000
    (tmp_path / "source").write_bytes(data)
    content = {"bytes": data, "file": tmp_path / "source", "pieces": iter([data[:10], data[10:]])}[form]
    blob = layout.write_blob(content, media_type="x/y")
    assert blob == Descriptor(media_type="x/y", digest=bytes_digest(data), size=len(data))
    assert layout.read_blob(blob) == data
    assert json.loads((layout.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert visible(layout.root / "blobs") == ["sha256/" + blob.digest.removeprefix("sha256:")]


def test_a_blob_that_is_not_the_expected_one_is_refused_and_leaves_nothing(layout):
    with pytest.raises(DigestMismatch, match="should be sha256:00"):
        layout.write_blob(b"other", media_type="x/y", expected="sha256:" + "00" * 32)
    assert visible(layout.root / "blobs") == []
    assert visible(layout.root / ".ingest") == []


def test_an_undamaged_blob_is_kept_and_a_damaged_one_is_healed(layout):
    blob = layout.write_blob(b"weights", media_type="x/y")
    path = layout.blob_path(blob.digest)
    before = path.stat().st_ino
    layout.write_blob(b"weights", media_type="x/y")
    assert path.stat().st_ino == before
    path.write_bytes(b"weightX")
    with pytest.raises(ImageInvalid, match=r"damaged.*Build the image again"):
        layout.read_blob(blob)
    layout.write_blob(b"weights", media_type="x/y")
    assert layout.read_blob(blob) == b"weights"


def test_a_missing_blob_says_what_to_do(layout):
    layout.create()
    with pytest.raises(ImageInvalid, match=r"cannot be read \(No such file or directory\).*Build the image again"):
        layout.manifest("sha256:" + "ab" * 32)


def test_a_tag_does_not_move(layout):
    first, second = (layout.write_blob(data, media_type=MANIFEST) for data in (b"{}", b'{"a":1}'))
    layout.add_manifest(first)
    layout.add_manifest(first, tag="digits:v1")
    layout.add_manifest(first, tag="digits:v1")
    with pytest.raises(ImageInvalid, match=r"the tag 'digits:v1' names sha256:44136f.* already.*another tag"):
        layout.add_manifest(second, tag="digits:v1")
    layout.add_manifest(second, tag="digits:v2")
    assert layout.tags() == {"digits:v1": first.digest, "digits:v2": second.digest}
    assert layout.references() == (layout.reference(first.digest), layout.reference(second.digest))
    index = json.loads((layout.root / "index.json").read_bytes())
    assert index["mediaType"] == INDEX
    assert len(index["manifests"]) == 2


def _add(root, number):
    layout = OciLayout(root)
    blob = layout.write_blob(b'{"n":%d}' % number, media_type=MANIFEST)
    layout.add_manifest(blob, tag=f"digits:v{number}")


def test_processes_that_write_at_once_lose_no_entry(layout):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        pool.starmap(_add, [(layout.root, number) for number in range(24)])
    assert set(layout.tags()) == {f"digits:v{number}" for number in range(24)}
    assert visible(layout.root / ".ingest") == []


def _write_until_killed(root, started):
    def pieces():
        yield b"x" * 5_000_000
        started.set()
        signal.pause()

    OciLayout(root).write_blob(pieces(), media_type="x/y")


def test_a_killed_writer_leaves_no_half_blob_and_the_next_one_sweeps_up(layout):
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=_write_until_killed, args=(layout.root, started))
    process.start()
    assert started.wait(20)
    layout.write_blob(b"beside", media_type="x/y")
    assert len(visible(layout.root / ".ingest")) == 1, "the living writer's file was swept"
    os.kill(process.pid, signal.SIGKILL)
    process.join(20)
    assert visible(layout.root / "blobs") == ["sha256/" + bytes_digest(b"beside").removeprefix("sha256:")]
    layout.write_blob(b"next", media_type="x/y")
    assert visible(layout.root / ".ingest") == []


def test_a_layout_in_place_of_a_file_is_not_writable(tmp_path):
    (tmp_path / "images").write_text("a file")
    with pytest.raises(NotWritable, match=r"images: the folder cannot be written.*MODELWAY_HOME"):
        OciLayout(tmp_path / "images").write_blob(b"x", media_type="x/y")


# --- references -------------------------------------------------------------------------------------------------------

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize("host", ["localhost:5000", "registry:5000", "127.0.0.1:5000", "[::1]:5000", "ghcr.io"])
def test_a_registry_reference_is_read(host):
    reference = parse_reference(f"{host}/team/digits@{DIGEST}")
    assert reference == RegistryReference(host=host, repository="team/digits", digest=DIGEST)
    assert str(reference) == f"{host}/team/digits@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    [
        "debian:12",
        f"debian@{DIGEST}",
        "ghcr.io/team/digits:v1",
        f"ghcr.io/Team/digits@{DIGEST}",
        f"ghcr.io/team/digits:v1@{DIGEST}",
        f"ghcr.io/../digits@{DIGEST}",
        f"oci-layout:images@{DIGEST}",
        "oci-layout:/images",
        f"ghcr.io/team/digits@{DIGEST.upper()}",
        "",
    ],
)
def test_what_is_not_pinned_or_not_a_reference_is_refused(text):
    with pytest.raises(ImageInvalid, match="Write "):
        parse_reference(text)


def test_a_login_in_a_reference_is_not_repeated():
    with pytest.raises(ImageInvalid) as refused:
        parse_reference(f"me:s3cret@ghcr.io/team/digits@{DIGEST}")
    assert "s3cret" not in str(refused.value)


# --- unpacking --------------------------------------------------------------------------------------------------------


def test_layers_are_unpacked_in_order_with_whiteouts(layout, tmp_path):
    reference = make_image(
        layout,
        tar(folder("etc"), entry("etc/a", b"1"), entry("etc/b", b"2"), folder("old"), entry("old/x", b"3")),
        tar(entry("etc/.wh.a"), entry("etc/b", b"22", mode=0o755), entry("old/.wh..wh..opq"), entry("old/y", b"4")),
        tar(link("etc/c", "b"), link("absolute", "/etc/b"), link("hard", "etc/b", tarfile.LNKTYPE)),
    )
    root = unpack_image(reference=reference, into=tmp_path / "unpacked")
    assert root == tmp_path / "unpacked" / reference.rpartition(":")[2]
    assert visible(root) == [".unpacked.json", "absolute", "etc/b", "etc/c", "hard", "old/y"]
    assert (root / "etc/b").stat().st_mode & 0o777 == 0o755
    assert (root / "etc/c").read_bytes() == (root / "absolute").read_bytes() == (root / "hard").read_bytes() == b"22"
    assert os.readlink(root / "absolute") == "etc/b"


@pytest.mark.parametrize("removed", [".wh.opt", "opt/.wh.models", ".wh..wh..opq", "opt/.wh..wh..opq"])
def test_the_models_folder_loses_what_a_later_layer_removes_above_it(layout, tmp_path, removed):
    model = [folder("opt"), folder("opt/models"), folder("opt/models/model")]
    reference = make_image(
        layout,
        tar(*model, entry("opt/models/model/old.onnx", b"old"), entry("opt/models/model/a.onnx", b"1")),
        tar(*model[: removed.count("/")], entry(removed)),
        tar(*model, entry("opt/models/model/a.onnx", b"2"), entry("opt/.wh.other"), entry("opt/models2/b", b"3")),
    )
    assert fetch_model_folder(reference=reference, path="/opt/models", into=tmp_path / "model")
    assert visible(tmp_path / "model") == [".modelway-loader", ".unpacked.json", "model/a.onnx"]
    assert (tmp_path / "model/model/a.onnx").read_bytes() == b"2"


@pytest.mark.parametrize("level", [1, 9])
def test_gzip_layers_are_unpacked_and_checked_twice(layout, tmp_path, level):
    layer = tar(entry("a", b"1" * 100_000))
    reference = make_image(layout, layer, media_type=LAYER_GZIP, pack=lambda data: gzip.compress(data, level))
    assert (unpack_image(reference=reference, into=tmp_path / "u") / "a").stat().st_size == 100_000
    wrong = make_image(layout, layer, media_type=LAYER_GZIP, pack=gzip.compress, diff_ids=[DIGEST])
    with pytest.raises(ImageInvalid, match=f"unpacks to {bytes_digest(layer)}, and the config says {DIGEST}"):
        unpack_image(reference=wrong, into=tmp_path / "u")


HOSTILE = {
    "parent": ("names the path", [entry("../escaped", b"x")]),
    "inner parent": ("names the path", [entry("a/../../escaped", b"x")]),
    "last parent": ("names the path", [folder("a"), link("a/..", "b")]),
    "absolute": ("names the path", [entry("/escaped", b"x")]),
    "link out": ("leads out", [link("out", "../../escaped")]),
    "absolute link out": ("leads out", [link("out", "/../../escaped")]),
    "link out through a link": ("leads out", [folder("d"), link("d/out", ".."), link("d/up", "out/..")]),
    "write through a link that was turned outwards": (
        "through a link",
        [
            folder("a"),
            folder("a/b"),
            link("turned", "a/b"),
            link("out", "turned/../.."),
            link("turned", "a"),
            entry("out/escaped", b"x"),
        ],
    ),
    "hard link out": ("links 'out' to", [link("out", "../secret", tarfile.LNKTYPE)]),
    "absolute hard link": ("links 'out' to", [link("out", "/etc/passwd", tarfile.LNKTYPE)]),
    "device": ("a device or pipe", [entry("null", type=tarfile.CHRTYPE)]),
    "block device": ("a device or pipe", [entry("disk", type=tarfile.BLKTYPE)]),
    "pipe": ("a device or pipe", [entry("pipe", type=tarfile.FIFOTYPE)]),
    "whiteout of the folder": ("removes", [entry("a", b"x"), entry(".wh.")]),
    "whiteout of the parent": ("removes", [entry("a", b"x"), entry(".wh...")]),
}


@pytest.mark.parametrize(("message", "entries"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_layer_is_refused_and_touches_nothing_outside(layout, tmp_path, message, entries):
    into = tmp_path / "in" / "unpacked"
    into.mkdir(parents=True)
    (tmp_path / "in" / "secret").write_text("secret")
    reference = make_image(layout, tar(*entries))
    with pytest.raises(ImageInvalid, match=message):
        unpack_image(reference=reference, into=into)
    assert visible(tmp_path / "in") == ["secret", f"unpacked/.{reference.rpartition(':')[2]}.lock"]
    assert [path.name for path in into.iterdir()] == [f".{reference.rpartition(':')[2]}.lock"]


def test_a_link_that_a_later_layer_turns_outwards_is_refused(layout, tmp_path):
    inner = tar(folder("a"), folder("a/b"), folder("a/b/c"), link("d", "a/b/c"), link("e", "d/../../../escaped"))
    turned = tar(entry(".wh.d"), link("d", "."))
    reference = make_image(layout, inner, turned)
    with pytest.raises(ImageInvalid, match="the link e leads out of the image"):
        unpack_image(reference=reference, into=tmp_path / "u")


@pytest.mark.parametrize("fault", ["flipped", "truncated", "gone", "config", "manifest"])
def test_a_damaged_image_is_refused_and_leaves_nothing(layout, tmp_path, fault):
    reference = make_image(layout, tar(entry("model.onnx", bytes(range(256)) * 4000)))
    digest = "sha256:" + reference.rpartition(":")[2]
    manifest = layout.manifest(digest)
    named = {"config": manifest["config"]["digest"], "manifest": digest}.get(fault, manifest["layers"][0]["digest"])
    path = layout.blob_path(named)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if fault == "truncated" else data.replace(data[20:22], b"??", 1))
    if fault == "gone":
        path.unlink()
    with pytest.raises(ImageInvalid, match="Build the image again"):
        unpack_image(reference=reference, into=tmp_path / "u")
    assert [path.name for path in (tmp_path / "u").iterdir()] == [f".{digest.removeprefix('sha256:')}.lock"]


def test_a_finished_folder_is_used_again_until_it_lost_a_file(layout, tmp_path):
    reference = make_image(layout, tar(entry("a", b"1"), entry("b", b"2")))
    root = unpack_image(reference=reference, into=tmp_path / "u")
    before = (root / "a").stat().st_ino
    layout.blob_path(layout.manifest("sha256:" + root.name)["layers"][0]["digest"]).rename(tmp_path / "layer")
    assert unpack_image(reference=reference, into=tmp_path / "u") == root
    assert (root / "a").stat().st_ino == before
    (root / "b").write_bytes(b"")
    with pytest.raises(ImageInvalid):
        unpack_image(reference=reference, into=tmp_path / "u")
    (tmp_path / "layer").rename(layout.blob_path(layout.manifest("sha256:" + root.name)["layers"][0]["digest"]))
    assert (unpack_image(reference=reference, into=tmp_path / "u") / "b").read_bytes() == b"2"
    assert sorted(path.name for path in (tmp_path / "u").iterdir()) == [f".{root.name}.lock", root.name]


CHANGES = {
    "a byte": lambda root: (root / "model" / "weights").write_bytes(b"weightz"),
    "a name": lambda root: (root / "a").rename(root / "b"),
    "a mode": lambda root: (root / "a").chmod(0o755),
    "one more": lambda root: (root / "model" / "more").write_bytes(b""),
    "a folder more": lambda root: (root / "more").mkdir(),
    "a link turned": lambda root: ((root / "link").unlink(), (root / "link").symlink_to("model")),
    "a file for a link": lambda root: ((root / "link").unlink(), (root / "link").write_bytes(b"1")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_finished_folder_is_compared_with_what_was_unpacked_before_it_serves(layout, tmp_path, change):
    members = (folder("model"), entry("model/weights", b"weights"), entry("a", b"1"), link("link", "a"))
    reference = make_image(layout, tar(*members))
    root = unpack_image(reference=reference, into=tmp_path / "u")
    change(root)
    assert unpack_image(reference=reference, into=tmp_path / "u") == root
    assert (root / "model" / "weights").read_bytes() == b"weights"
    assert os.readlink(root / "link") == "a"
    assert visible(root) == [".unpacked.json", "a", "link", "model/weights"]
    assert (root / "a").stat().st_mode & 0o777 == 0o644


def sparse(name):
    """Return a file with holes, as GNU tar writes it: a byte on the disk, a gigabyte for who reads it."""
    member, data = entry(name, b"x")
    member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,1"}
    member.pax_headers |= {"GNU.sparse.size": str(1 << 30), "GNU.sparse.realsize": str(1 << 30)}
    return member, data


LIMITS = {
    "bytes of all": (
        "the image unpacks to more than 100,000 bytes",
        [entry("a", b"x" * 60_000)],
        2,
        {"bytes": 100_000},
    ),
    "files of all": ("the image has more than 5 files", [entry(f"f{n}") for n in range(3)], 2, {"files": 5}),
    "ratio": ("unpacks to more than 20,000 bytes", [entry("a", b"x" * 100_000)], 1, {"small": 20_000, "ratio": 1}),
    "long name": ("the attributes of a member have 5,011 bytes", [entry("d/" * 2499 + "ab")], 1, {"header": 5_000}),
    "file with holes": ("'a', a file with holes", [sparse("a")], 1, {}),
    "twice": ("the file 'a' twice", [entry("a", b"1"), entry("a", b"2")], 1, {}),
}


@pytest.mark.parametrize(("reported", "members", "layers", "limits"), LIMITS.values(), ids=LIMITS.keys())
def test_what_unpacks_to_too_much_is_refused(layout, tmp_path, monkeypatch, reported, members, layers, limits):
    monkeypatch.setattr(oci_unpack, "Limits", partial(oci_unpack.Limits, **limits))
    packed = [tar(*members) for _ in range(layers)]
    reference = make_image(layout, *packed, media_type=LAYER_GZIP, pack=gzip.compress)
    with pytest.raises(ImageInvalid, match=reported):
        unpack_image(reference=reference, into=tmp_path / "u")
    assert [path.name for path in (tmp_path / "u").iterdir()] == [f".{reference.rpartition(':')[2]}.lock"]


def test_the_limits_are_far_from_what_models_need(layout, tmp_path):
    zeros = tar(entry("weights", bytes(50 << 20)))
    reference = make_image(layout, zeros, media_type=LAYER_GZIP, pack=gzip.compress)
    assert (unpack_image(reference=reference, into=tmp_path / "u") / "weights").stat().st_size == 50 << 20


def _unpack(reference, into):
    return unpack_image(reference=reference, into=into)


def test_processes_that_unpack_at_once_get_one_folder(layout, tmp_path):
    reference = make_image(layout, tar(*(entry(f"f{number}", b"x" * 10_000) for number in range(50))))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        roots = set(pool.starmap(_unpack, [(reference, tmp_path / "u")] * 8))
    assert len(roots) == 1
    assert len(visible(roots.pop())) == 51


def test_a_folder_that_cannot_be_written_is_named(layout, tmp_path):
    reference = make_image(layout, tar(entry("a", b"1")))
    (tmp_path / "u").write_text("a file")
    with pytest.raises(NotWritable, match=r"/u: the folder cannot be written"):
        unpack_image(reference=reference, into=tmp_path / "u")


def test_an_index_leads_to_this_machines_platform_and_others_are_named(layout, tmp_path):
    reference = make_image(layout, tar(entry("a", b"1")))
    digest = "sha256:" + reference.rpartition(":")[2]
    for platforms, fits in ((["amd64", "arm64"], True), (["riscv64"], False)):
        entries = [
            {
                "mediaType": MANIFEST,
                "digest": digest,
                "size": layout.blob_path(digest).stat().st_size,
                "platform": {"os": "linux", "architecture": name},
            }
            for name in platforms
        ]
        index = layout.write_blob(canonical_json({"schemaVersion": 2, "manifests": entries}), media_type=INDEX)
        if fits:
            root = unpack_image(reference=layout.reference(index.digest), into=tmp_path / "u")
            assert root.name == index.digest.removeprefix("sha256:")
            assert (root / "a").read_bytes() == b"1"
        else:
            with pytest.raises(ImageInvalid, match=r"Known: linux/riscv64"):
                unpack_image(reference=layout.reference(index.digest), into=tmp_path / "u")


@pytest.mark.parametrize(
    "document", [b"[]", b"{", b'{"config":{}}', b'{"config":{"mediaType":"x","digest":"../x","size":1}}']
)
def test_a_manifest_that_is_none_is_refused(layout, tmp_path, document):
    blob = layout.write_blob(document, media_type=MANIFEST)
    with pytest.raises(ImageInvalid, match="OCI image specification"):
        unpack_image(reference=layout.reference(blob.digest), into=tmp_path / "u")


def test_a_zstd_layer_is_refused_by_name(layout, tmp_path):
    reference = make_image(layout, tar(entry("a", b"1")), media_type=LAYER_TAR + "+zstd")
    with pytest.raises(ImageInvalid, match=r"tar\+zstd.*gzip layers"):
        unpack_image(reference=reference, into=tmp_path / "u")
