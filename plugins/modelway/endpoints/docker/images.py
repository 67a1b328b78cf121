"""What a server's container is made of: a model's image, or the server's image and the model in a volume."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

from modelway.endpoints.base import Login
from modelway.endpoints.docker.containers import GROUP, Key, Runnable
from modelway.errors import CapabilityMissing, ImageInvalid
from modelway.oci.manifest import LayoutReference, parse_reference
from modelway.platforms.docker.engine import Engine, Object
from modelway.platforms.docker.layout_image import load_missing

#: what ``make images`` builds
SERVER_IMAGE = "modelway-server:0.1.0"
#: of the container that stands for a volume that was filled
MODEL_VOLUME = f"{GROUP}/volume"
_PROGRAM = "modelway.server"


def prepare(engine: Engine, image: str, *, model_path: str, login: Login | None, key: Key) -> Runnable:
    """Bring a model's image to the engine, and return what its server is made of.

    An image with a server runs as it is. One with a model alone (``image.base: scratch``) gives its model to a volume,
    which the engine fills itself; the image of the model server runs with it. The volume is the endpoint's own, so that
    no other endpoint finds it unused while this one is about to use it.

    :raises ImageInvalid: it is no reference by digest, or damaged, or has no folder ``model_path``
    :raises CapabilityMissing: it has no server, and the image of the model server is not there either
    :raises SubmitFailed: the engine cannot pull it, refuses or does not answer
    """
    reference = parse_reference(image)
    if isinstance(reference, LayoutReference):
        name = load_missing(engine, reference)
    else:
        name = image
        _pull(engine, image, login)
    found = engine.find_image(name) or {}
    if program := _program(found):
        return Runnable(image=name, image_id=found["Id"], own=_PROGRAM in program)
    server = _server_image(engine, login)
    volume = _model_volume(engine, name, image, model_path, key)
    return Runnable(image=server[0], image_id=f"{server[1]['Id']} {found['Id']}", volume=volume)


def remove_unused_models(engine: Engine, key: Key) -> None:
    """Remove the volumes of an endpoint's models that no server of it uses."""
    labels = key.labels("model")
    used = {
        mount.get("Name")
        for container in engine.containers(key.labels("server"))
        for mount in container.get("Mounts") or ()
    }
    for holder in engine.containers(labels):
        if holder["Labels"].get(MODEL_VOLUME) not in used:
            engine.remove(holder["Id"])
    for found in engine.volumes(labels, unused=True):
        engine.remove_volume(found["Name"])


def _pull(engine: Engine, image: str, login: Login | None) -> None:
    if login is not None and login.opens(image):
        engine.pull_missing(image, username=login.username, password=login.password)
    else:
        engine.pull_missing(image)


def _program(image: Object) -> list[str]:
    config: Mapping[str, Any] = image.get("Config") or {}
    return [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]


def _server_image(engine: Engine, login: Login | None) -> tuple[str, Object]:
    name = os.environ.get("MODELWAY_SERVER_IMAGE") or SERVER_IMAGE
    if "@" in name:
        _pull(engine, name, login)
    found = engine.find_image(name)
    if found is None:
        raise CapabilityMissing(
            f"the model's image has no server, and the engine has no image {name} of the model server to run with it",
            do="Run `make images ARGS=server` on the engine, name another one in MODELWAY_SERVER_IMAGE, or build the "
            "model with image.base: server",
        )
    return name, found


def _model_volume(engine: Engine, name: str, image: str, model_path: str, key: Key) -> str:
    """Return the volume with an image's model, filled now where it is not there.

    The engine fills an empty volume when it creates a container with it. That container stays, though nothing can run
    in it: it is there only once the whole model is in the volume.
    """
    digest = hashlib.sha256(f"{image.rpartition('@')[2]} {model_path}".encode()).hexdigest()[:16]
    volume = f"{key.name}-model-{digest}"
    if engine.inspect(volume) is not None:
        return volume
    # One without its container was not filled to its end.
    engine.remove_volume(volume)
    labels = {**key.labels("model"), MODEL_VOLUME: volume}
    engine.create_volume(volume, labels)
    mount = {"Type": "volume", "Source": volume, "Target": model_path}
    body = {"Image": name, "Cmd": ["/nothing"], "Labels": labels, "HostConfig": {"Mounts": [mount]}}
    holder = engine.create(body, volume)
    if engine.size(holder, f"{model_path}/model") is None:
        engine.remove(holder)
        engine.remove_volume(volume)
        raise ImageInvalid(
            f"there is no folder {model_path} in the image",
            where=image,
            do="Build the image again, or name the folder that the model is in",
        )
    return volume
