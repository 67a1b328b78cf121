"""Ways to bring the files of a folder into a registry as an image; each is a process that ``run.py`` starts.

``python contestants.py NAME FOLDER REPOSITORY TAG SCRATCH`` pushes; it prints the seconds of that without the start of
Python, and the digest. ``modelway`` is the builder of this repository with what freezing knows, ``hashing`` the same
without the digests of layers, ``before`` that of an earlier build (PYTHONPATH says which), ``append`` the least that
can be done with http.client: hash each file as a layer, then send it; with digests that ``SCRATCH`` remembers it only
sends.
"""

import hashlib
import http.client
import importlib
import json
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

PIECE = 1 << 20
PARALLEL = 4
TAR = "application/vnd.oci.image.layer.v1.tar"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def modelway(folder: Path, repository: str, tag: str, scratch: Path) -> str:
    """Build with the builder of modelway; the digests of files and of layers are known from freezing."""
    return _built(folder, repository, tag, scratch)


def hashing(folder: Path, repository: str, tag: str, scratch: Path) -> str:
    """Build as ``modelway``, without the digests of layers, as of an archive of an earlier version."""
    return _built(folder, repository, tag, scratch, layers_known=False)


def _built(folder: Path, repository: str, tag: str, scratch: Path, *, layers_known: bool = True) -> str:
    from modelway.builders.base import BuildOptions, Layer, LayerFile, load_builder

    digests = json.loads((folder / "digests.json").read_text())
    is_ours = "known_layers" in BuildOptions.__dataclass_fields__
    knows = is_ours and layers_known and "digest" in Layer.__dataclass_fields__
    layers = [
        Layer(
            files=(
                LayerFile(
                    path_in_image=f"/models/model/{name}",
                    source=folder / name,
                    size=(folder / name).stat().st_size,
                    digest=digest,
                ),
            ),
            **({"digest": layer} if knows else {}),
        )
        for name, (digest, layer) in digests.items()
    ]
    more = {"known_layers": scratch / "layers"} if is_ours else {"layout": scratch / "images"}
    options = BuildOptions(name="bench", repository=repository, tag=tag, **more)
    return load_builder("oci").build(layers=layers, base="scratch", options=options).digest


def append(folder: Path, repository: str, tag: str, scratch: Path) -> str:
    """Hash and send, no more."""
    host, _, name = repository.partition("/")
    layers = _layers(folder, scratch)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest for _, digest, _ in layers]},
        }
    ).encode()
    config_digest = _digest(config)
    blobs = [*layers, (None, config_digest, len(config))]

    def send(blob: tuple[Path | None, str, int]) -> None:
        path, digest, size = blob
        connection = http.client.HTTPConnection(host, blocksize=PIECE)
        connection.request("HEAD", f"/v2/{name}/blobs/{digest}")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            connection.request("POST", f"/v2/{name}/blobs/uploads/")
            answer = connection.getresponse()
            answer.read()
            place = urlsplit(answer.headers["Location"])
            target = f"{place.path}?{place.query}&digest={digest}"
            connection.request("PUT", target, _tar(path) if path else config, {"Content-Length": str(size)})
            answer = connection.getresponse()
            assert answer.status == 201, answer.read()
        connection.close()

    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(send, blobs))
    described = [{"mediaType": TAR, "digest": digest, "size": size} for _, digest, size in layers]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": len(config)},
            "layers": described,
        }
    ).encode()
    connection = http.client.HTTPConnection(host)
    connection.request("PUT", f"/v2/{name}/manifests/{tag}", manifest, {"Content-Type": MANIFEST})
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    return _digest(manifest)


def oras(folder: Path, repository: str, tag: str, scratch: Path) -> str:
    """Push the files as an artifact with oras of PyPI."""
    from oras.client import OrasClient

    names = [str(path) for path in sorted(folder.glob("*.safetensors"))]
    client = OrasClient(insecure=True)
    answer = client.push(target=f"{repository}:{tag}", files=names, disable_path_validation=True)
    return str(answer.headers.get("Docker-Content-Digest", ""))


def docker(folder: Path, repository: str, tag: str, scratch: Path) -> str:
    """Build with a Dockerfile, a layer for each file, and push."""
    (folder / "Dockerfile").write_text(_dockerfile(folder))
    _run(["docker", "build", "--quiet", "--tag", f"{repository}:{tag}", str(folder)])
    pushed = _run(["docker", "push", f"{repository}:{tag}"])
    return f"sha256:{pushed.rpartition('sha256:')[2][:64]}"


def buildah(folder: Path, repository: str, tag: str, scratch: Path) -> str:
    """Build with the same Dockerfile and push, without compression."""
    (folder / "Dockerfile").write_text(_dockerfile(folder))
    place = ["--root", str(scratch / "storage"), "--runroot", str(scratch / "run"), "--storage-driver", "vfs"]
    image = f"{repository}:{tag}"
    build = ["bud", "--layers", "--isolation", "chroot", "--timestamp", "0", "--quiet", "--tag", image, str(folder)]
    _run(["buildah", *place, *build])
    written = scratch / "digest"
    push = ["push", "--tls-verify=false", "--disable-compression", "--digestfile", str(written)]
    _run(["buildah", *place, *push, image, f"docker://{image}"])
    return written.read_text()


def _dockerfile(folder: Path) -> str:
    copies = [f"COPY {path.name} /models/model/{path.name}" for path in sorted(folder.glob("*.safetensors"))]
    return "\n".join(["FROM scratch", *copies]) + "\n"


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr[-2000:]}")
    return done.stdout


def _layers(folder: Path, scratch: Path) -> list[tuple[Path, str, int]]:
    """Return each file with the digest and size of its layer."""
    known = scratch / "append.json"
    digests: dict[str, str] = json.loads(known.read_text()) if known.exists() else {}

    def layer(path: Path) -> tuple[Path, str, int]:
        # A file that changes has another name of its contents.
        key = f"{path.name} {json.loads((folder / 'digests.json').read_text())[path.name]}"
        if key not in digests:
            hasher = hashlib.sha256()
            for piece in _tar(path):
                hasher.update(piece)
            digests[key] = f"sha256:{hasher.hexdigest()}"
        size = path.stat().st_size
        return path, digests[key], 512 + size + -size % 512 + 1024

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(layer, sorted(folder.glob("*.safetensors"))))
    scratch.mkdir(exist_ok=True)
    known.write_text(json.dumps(digests))
    return found


def _tar(path: Path) -> Iterator[bytes | memoryview]:
    size = path.stat().st_size
    entry = tarfile.TarInfo(f"models/model/{path.name}")
    entry.size = size
    yield entry.tobuf()
    buffer = memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as file:
        while number := file.readinto(buffer):
            yield buffer[:number]
    yield bytes(-size % 512 + 1024)


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


CONTESTANTS = {
    "modelway": modelway,
    "hashing": hashing,
    "before": modelway,
    "append": append,
    "oras": oras,
    "docker": docker,
    "buildah": buildah,
}

#: what a long-running process has loaded before
LOADED = {
    "modelway": "modelway.oci.referrers",
    "hashing": "modelway.oci.referrers",
    "before": "modelway.oci.registry",
    "oras": "oras.client",
}

if __name__ == "__main__":
    name, folder, repository, tag, scratch = sys.argv[1:]
    Path(scratch).mkdir(parents=True, exist_ok=True)
    if name in LOADED:
        importlib.import_module(LOADED[name])
    began = time.perf_counter()
    made = CONTESTANTS[name](Path(folder), repository, tag, Path(scratch))
    print(f"{time.perf_counter() - began:.3f} {made}")
