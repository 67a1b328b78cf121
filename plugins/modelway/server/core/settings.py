"""Settings of the server: the command line first, then the environment variables of the usual container platforms."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelway.server.core.refusal import CannotServe

MEBIBYTE = 1 << 20

#: option, default, what it limits; each is a variable of the environment, too
_LIMITS = (
    ("max-body-mib", "64", "largest request body, MiB"),
    ("max-json-mib", "16", "largest JSON in a request body, MiB; large tensors belong into its binary part"),
    ("max-rows", "8192", "rows of one request, at most"),
    ("max-in-flight-mib", "96", "MiB that all requests in flight hold together"),
    ("max-queue", "1024", "requests that wait for the model together"),
    ("max-wait", "30", "seconds that a request waits for the model, at most"),
    ("sketch-rows", "200", "rows a second that the sketches of inputs and outputs count; 0: none"),
)


@dataclass(frozen=True)
class Settings:
    """What one server process serves, and how."""

    model_dir: Path
    #: whether the model's files are compared with their digests first
    check_files: bool
    #: name in the URLs; None: the model's own name
    name: str | None
    #: name for the header x-model-name, where the URLs have another; None: there is no such header
    model: str | None
    version: str
    host: str
    #: 0 lets the system choose; ``run_file`` then contains the choice
    port: int
    #: of gRPC, as ``port``; None: it is not served
    grpc_port: int | None
    #: rows of one call of the model that are gathered from several requests; 1 turns gathering off
    batch_size: int
    #: threads inside one call of the model
    threads: int
    #: bytes of one request, compressed and not
    max_body: int
    #: bytes of the JSON in it
    max_json: int
    #: rows of one request
    max_rows: int
    #: bytes that all requests in flight hold together; at least one body
    max_in_flight: int
    #: requests that wait for the model together
    max_queue: int
    #: seconds that a request waits for the model
    max_wait: int
    #: rows a second that the sketches count
    sketch_rows: int
    #: where a share of the requests is written; None: nowhere
    sample_dir: Path | None
    sample_share: float
    #: seconds between SIGTERM and the end, at most
    drain_limit: float
    #: seconds without a new request after which a draining server ends
    drain_quiet: float
    #: where {"pid", "port"} is written once the server listens
    run_file: Path | None
    #: further paths for infer and ready (Vertex names its own)
    predict_route: str | None
    health_route: str | None
    #: whether callers can send nothing but POST (Vertex lets nothing else through)
    only_post: bool


def read_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Return the settings of a command line, with ``environ`` for what it leaves out.

    PORT is Cloud Run's variable, the ``AIP_*`` ones are Vertex AI's.

    :raises CannotServe: for a value that is missing or out of range
    :raises SystemExit: as argparse does, for a misspelt option
    """
    arguments = _parser(environ).parse_args(argv)
    if arguments.model_dir is None:
        raise CannotServe("no model folder: give --model-dir or set MODELWAY_MODEL_DIR")
    settings = Settings(
        model_dir=Path(arguments.model_dir),
        check_files=not arguments.files_are_checked,
        name=arguments.name,
        model=arguments.model,
        version=arguments.version,
        host=arguments.host,
        port=_whole("port", arguments.port, 0, 65535),
        grpc_port=_whole("grpc-port", arguments.grpc_port, 0, 65535) if arguments.grpc_port else None,
        batch_size=_whole("batch-size", arguments.batch_size, 1, 65536),
        threads=_whole("threads", arguments.threads, 1, 1024),
        max_body=_whole("max-body-mib", arguments.max_body_mib, 1, 1 << 20) * MEBIBYTE,
        max_json=_whole("max-json-mib", arguments.max_json_mib, 1, 1 << 20) * MEBIBYTE,
        max_rows=_whole("max-rows", arguments.max_rows, 1, 1 << 31),
        max_in_flight=_whole("max-in-flight-mib", arguments.max_in_flight_mib, 1, 1 << 20) * MEBIBYTE,
        max_queue=_whole("max-queue", arguments.max_queue, 1, 1 << 31),
        max_wait=_whole("max-wait", arguments.max_wait, 1, 1 << 31),
        sketch_rows=_whole("sketch-rows", arguments.sketch_rows, 0, 1 << 31),
        sample_dir=Path(arguments.sample_dir) if arguments.sample_dir else None,
        sample_share=_share(arguments.sample_share),
        drain_limit=arguments.drain_limit,
        drain_quiet=arguments.drain_quiet,
        run_file=Path(arguments.run_file) if arguments.run_file else None,
        predict_route=environ.get("AIP_PREDICT_ROUTE"),
        health_route=environ.get("AIP_HEALTH_ROUTE"),
        only_post="AIP_HTTP_PORT" in environ,
    )
    settings = replace(settings, max_in_flight=max(settings.max_in_flight, settings.max_body))
    for option, value in (("version", settings.version), ("model", settings.model or "")):
        if not (value.isascii() and value.isprintable()):
            raise CannotServe(f"--{option} must be printable ASCII, got {value!r}: it is in a header")
    for route in (settings.predict_route, settings.health_route):
        if route is not None and not route.startswith("/"):
            raise CannotServe(f"a route must start with '/', got {route!r} in AIP_PREDICT_ROUTE or AIP_HEALTH_ROUTE")
    return settings


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m modelway.server", description=__doc__, allow_abbrev=False)
    option = parser.add_argument
    option("--model-dir", default=environ.get("MODELWAY_MODEL_DIR"), help="folder with model/model.onnx")
    option("--files-are-checked", action="store_true", help="do not compare the model's files with their digests")
    option("--name", default=environ.get("MODELWAY_MODEL_NAME"), help="model name in the URLs")
    option("--model", help="name of the version's model for the header x-model-name, where --name is another")
    option("--version", default=environ.get("MODELWAY_MODEL_VERSION", "1"), help="model version in the URLs")
    # Vertex AI and Cloud Run ask from outside of the container
    host = "0.0.0.0" if environ.get("AIP_HTTP_PORT") or environ.get("K_SERVICE") else "127.0.0.1"
    option("--host", default=environ.get("MODELWAY_HOST", host), help="address to listen on")
    option("--port", default=environ.get("AIP_HTTP_PORT") or environ.get("PORT") or "8080", help="0: any free one")
    option(
        "--grpc-port", default=environ.get("GRPC_PORT"), help="of gRPC, which is not served without; 0: any free one"
    )
    option("--batch-size", default="8", help="rows gathered into one call of the model while it is busy")
    option("--threads", default="1", help="threads inside one call of the model")
    for name, default, text in _LIMITS:
        variable = f"MODELWAY_{name.upper().replace('-', '_')}"
        option(f"--{name}", default=environ.get(variable, default), help=f"{text} (or {variable})")
    sample_dir, share = environ.get("MODELWAY_SAMPLE_DIR"), environ.get("MODELWAY_SAMPLE_SHARE", "0.01")
    option("--sample-dir", default=sample_dir, help="folder for a share of the requests (or MODELWAY_SAMPLE_DIR)")
    option("--sample-share", default=share, help="share of the requests, 0 to 1 (or MODELWAY_SAMPLE_SHARE)")
    option("--drain-limit", type=float, default=25.0, help="seconds between SIGTERM and the end, at most")
    option("--drain-quiet", type=float, default=0.5, help="seconds without a request that end the drain")
    option("--run-file", help="file that gets the process id and the ports once the server listens")
    return parser


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise CannotServe(f"--sample-share must be a number from 0 to 1, got {text!r}")
    return share


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
        raise CannotServe(f"--{name} must be a whole number from {least} to {most}, got {text!r}")
    return int(text)
