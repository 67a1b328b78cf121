"""Images of tiny models that stand on the server's image, in a registry of the tests' own: what nodes can run."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.registry import Registry
from tests.tiny_model import write_model

SERVER = "modelway-server:0.1.0"
_DOCKERFILE = f"FROM {SERVER}\nCOPY model /models/model\nCOPY outputs /models/outputs\n"


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@contextmanager
def pushed_models(folder: Path) -> Iterator[dict[int | str, str]]:
    """Give the references, by digest, of versions that answer with their number, and of one with a broken model."""
    # Also pods reach it, under the address of their node.
    registry, tags = Registry(folder, address="0.0.0.0"), []
    found: dict[int | str, str] = {}
    try:
        for word in (1, 2, 3, "broken"):
            model = write_model(folder / str(word), scale=word if isinstance(word, int) else 1)
            if word == "broken":
                (model / "model" / "model.onnx").write_bytes(b"not a model")
            (model / "Dockerfile").write_text(_DOCKERFILE)
            tags.append(f"{registry.host}/models/tiny:{word}")
            docker("build", "--quiet", "--tag", tags[-1], str(model))
            docker("push", "--quiet", tags[-1])
            digests = docker("inspect", "--format", '{{join .RepoDigests "\\n"}}', tags[-1]).splitlines()
            found[word] = next(each for each in digests if each.startswith(f"{registry.host}/"))
        yield found
    finally:
        registry.stop()
        for name in (*tags, *found.values()):
            subprocess.run(["docker", "rmi", name], capture_output=True)
