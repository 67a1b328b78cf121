"""``python -m modelway.server.loader --image REFERENCE --into FOLDER``: fetch a model, before a server starts with it.

For nodes that mount no images: an init container with the server's image that shares the folder with the server.
The reference has a digest, which all that is fetched is checked by. What is there already is not fetched again.
The registry's login is that of Docker's settings (``DOCKER_CONFIG``); ``MODELWAY_REGISTRY_MIRRORS`` names mirrors.

Exit status: 0 when the model is there, 1 when another attempt may help, 2 when none will.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from modelway.errors import ModelwayError
from modelway.oci.model_folder import fetch_model_folder


def main(argv: Sequence[str]) -> int:
    """Fetch the model and return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        fetched = fetch_model_folder(
            reference=arguments.image, path=arguments.path, into=arguments.into, insecure=arguments.insecure
        )
    except ModelwayError as error:
        _say(str(error))
        return 1 if error.retryable else 2
    _say(f"{arguments.into} has the model of {arguments.image}{'' if fetched else ' already'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m modelway.server.loader",
        description=__doc__,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("--image", required=True, help="<host>/<repository>@sha256:<digest>")
    option("--into", required=True, type=Path, help="folder that gets the model's files, and nothing else")
    option("--path", default="/models", help="the model's folder in the image (default: /models)")
    option("--insecure", action="store_true", help="speak HTTP with a registry on another machine")
    return parser


def _say(text: str) -> None:
    print(f"modelway loader: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    # The first process of a container is not ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    logging.basicConfig(format="modelway loader: %(message)s", level=logging.WARNING)
    sys.exit(main(sys.argv[1:]))
