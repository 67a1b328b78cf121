"""``python -m modelway.server``: load one model, serve it, drain on SIGTERM.

Exit status: 0 after a drain, 1 when the drain's limit left requests unanswered, 2 when the model or a setting cannot be
used, 3 when the server cannot listen on the address.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uvicorn

from modelway.server.core.batcher import Batcher
from modelway.server.core.metrics import Metrics
from modelway.server.core.process import limit_process
from modelway.server.core.refusal import CannotServe, Refusal
from modelway.server.core.runtime import OnnxModel, load_model
from modelway.server.core.settings import Settings, read_settings
from modelway.server.rest.app import Routes
from modelway.server.rest.bodies import Limits
from modelway.server.rest.drain import Drain, DrainingServer, Gate
from modelway.server.rest.translate import JSON_BYTES_OF_A_VALUE, Translator
from modelway.server.rest.wire import BoundedProtocol

#: rows of one call of a request that is cut into slices, where the gathered call has fewer
_SLICE = 8


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until a signal ends the server, and return the exit status."""
    try:
        settings = read_settings(argv, environ)
        model = load_model(settings.model_dir, threads=settings.threads)
    except CannotServe as error:
        print(f"modelway.server: {error}", file=sys.stderr, flush=True)
        return 2
    try:
        model.warm_up()
    except Refusal as refusal:
        _say(f"no warm-up: {refusal}")
    limit_process()
    name = settings.name or model.signature.name
    drain = Drain(limit=settings.drain_limit, quiet=settings.drain_quiet)
    _server(settings, model, name, drain).run()
    if drain.cut_off:
        _say(f"the drain reached its limit of {settings.drain_limit} s, {drain.cut_off} requests were not answered")
        return 1
    _say("drained")
    return 0


def _server(settings: Settings, model: OnnxModel, name: str, drain: Drain) -> DrainingServer:
    metrics = Metrics(model=name, version=settings.version)
    batches = model.signature.batches
    batcher = Batcher(
        model.run,
        limit=settings.batch_size if batches else 1,
        slice_rows=max(settings.batch_size, _SLICE) if batches else None,
        max_waiting=4 * settings.max_rows,
        observe=metrics.rows,
    )
    translator = Translator(settings.model_dir, max_values=settings.max_json // JSON_BYTES_OF_A_VALUE)
    routes = Routes(
        name=name,
        version=settings.version,
        signature=model.signature,
        batcher=batcher,
        metrics=metrics,
        drain=drain,
        translator=translator,
        limits=Limits(body=settings.max_body, json=settings.max_json),
        max_rows=settings.max_rows,
        max_in_flight=settings.max_in_flight,
    )
    app = routes.application(predict_route=settings.predict_route, health_route=settings.health_route)
    config = uvicorn.Config(
        Gate(app, drain=drain, version=settings.version),
        host=settings.host,
        port=settings.port,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        # longer than a gateway keeps an idle connection, so that the gateway and not the server closes it
        timeout_keep_alive=75,
        server_header=False,
    )
    return DrainingServer(config, drain=drain, listening=_listening(settings, name))


def _listening(settings: Settings, name: str) -> Callable[[int], None]:
    def listening(port: int) -> None:
        if settings.run_file is not None:
            _write(settings.run_file, {"pid": os.getpid(), "port": port})
        _say(f"{name} version {settings.version} on http://{settings.host}:{port}")

    return listening


def _write(path: Path, document: Mapping[str, int]) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with beside.open("w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _say(text: str) -> None:
    print(f"modelway.server: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    status = main(sys.argv[1:], os.environ)
    sys.stderr.flush()
    # not sys.exit: that would wait for a call of the model that the drain has abandoned
    os._exit(status)
