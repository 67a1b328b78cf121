"""Images of tiny models that stand on the server's image, in a registry of the tests' own: what nodes can run."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.pushed_layers import SERVER, docker, registry_with_layers
from tests.tiny_model import write_model

_DOCKERFILE = f"FROM {SERVER}\nCOPY model /models/model\nCOPY outputs /models/outputs\n"


@contextmanager
def pushed_models(folder: Path) -> Iterator[dict[int | str, str]]:
    """Give the references, by digest, of versions that answer with their number, and of one with a broken model."""
    # Also pods reach it, under the address of their node.
    registry, tags = registry_with_layers(folder, repository="models/tiny", address="0.0.0.0"), list[str]()
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
