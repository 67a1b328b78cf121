"""Google's endpoints on this machine, for tests: the fake, and images in a real registry."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from modelway.builders.base import BuildOptions, load_builder

from tests.google.cloud_run import CloudRun
from tests.google.counted import Monitoring
from tests.google.fake import GoogleFake
from tests.google.vertex_endpoints import VertexEndpoints
from tests.system.registry import Registry
from tests.tiny_endpoint import model_layer
from tests.tiny_model import write_model

PROJECT, REGION = "my-project", "europe-west1"


def push_model(model: Path, repository: str, *, login: tuple[str, str] | tuple[None, None] = (None, None)) -> str:
    """Push an image of a model's folder and return its reference by digest."""
    options = BuildOptions(name="tiny", repository=repository, username=login[0], password=login[1])
    return load_builder("oci").build(layers=(model_layer(model),), base="scratch", options=options).reference


@contextmanager
def pushed_images(folder: Path) -> Iterator[dict[int | str, str]]:
    """Give the references of versions that answer with their number, and of one with a broken model."""
    registry = Registry(folder)
    try:
        repository = f"{registry.host}/models/tiny"
        found: dict[int | str, str] = {}
        for word in (1, 2, 3, "broken"):
            model = write_model(folder / str(word), scale=word if isinstance(word, int) else 1)
            if word == "broken":
                (model / "model" / "model.onnx").write_bytes(b"not a model")
            found[word] = push_model(model, repository)
        yield found
    finally:
        registry.stop()


@contextmanager
def serving_fake(
    folder: Path, *more: Callable[[GoogleFake], Any], login: tuple[str, str] | tuple[None, None] = (None, None)
) -> Iterator[GoogleFake]:
    """Give the fake with what serves; nothing of it is left afterwards.

    :param more: other services
    :param login: that images are read with
    """
    monitoring: list[Monitoring] = []

    def counted(fake: GoogleFake) -> Monitoring:
        monitoring.append(Monitoring(fake))
        return monitoring[0]

    def served(kind: Callable[..., Any], fake: GoogleFake) -> Any:
        return kind(fake, folder=folder / kind.__name__, monitoring=monitoring[0], login=login)

    fake = GoogleFake(counted, *(partial(served, kind) for kind in SERVED), *more)
    try:
        with fake:
            yield fake
    finally:
        for kind in SERVED:
            fake.service(kind).close()


#: the services whose endpoints answer
SERVED: tuple[type[Any], ...] = (CloudRun, VertexEndpoints)
