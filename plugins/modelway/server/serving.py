"""Loads one model, serves it, drains on SIGTERM; the exit status is in ``__main__``."""

import asyncio
import gc
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from modelway.server.core.batcher import Batcher, Inputs, Outputs
from modelway.server.core.budget import Budget
from modelway.server.core.drain import Drain
from modelway.server.core.metrics import Metrics
from modelway.server.core.predictions import Predictions
from modelway.server.core.process import limit_process
from modelway.server.core.refusal import CannotServe, Refusal
from modelway.server.core.runtime import OnnxModel, load_model
from modelway.server.core.samples import Samples
from modelway.server.core.settings import Settings, read_settings
from modelway.server.core.signature import Signature
from modelway.server.core.sketches import Sketches
from modelway.server.core.validity import Validity
from modelway.server.core.whole import check_files
from modelway.server.rest.bodies import Limits
from modelway.server.rest.infer import Infer
from modelway.server.rest.listener import Listener, say
from modelway.server.rest.routes import SERVER_VERSION, Routes
from modelway.server.rest.translate import JSON_BYTES_OF_A_VALUE, Translator

if TYPE_CHECKING:
    from modelway.server.grpc.listener import GrpcListener

#: rows of one call of a request that is cut into slices, where the gathered call has fewer
_SLICE = 8
#: CPU seconds of a call of the model that may run on the event loop; others wait for it there
_QUICK_SECONDS = 0.002


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve until a signal ends the server, and return the exit status."""
    try:
        settings = read_settings(argv, environ)
        if settings.check_files:
            check_files(settings.model_dir)
        model = load_model(settings.model_dir, threads=settings.threads)
    except CannotServe as error:
        say(str(error))
        return 2
    name = settings.name or model.signature.name
    drain = Drain(limit=settings.drain_limit, quiet=settings.drain_quiet)
    try:
        listener, grpc = _listeners(settings, model, name, drain)
    except CannotServe as error:
        say(str(error))
        return 2
    limit_process()
    # what the server is made of is never garbage: it is not searched again while requests wait
    gc.freeze()
    try:
        listener.run(host=settings.host, port=settings.port, listening=_listening(settings, name, grpc))
    except OSError as error:
        say(f"cannot listen: {error.strerror}")
        return 3
    if drain.cut_off:
        say(f"the drain reached its limit of {settings.drain_limit} s, {drain.cut_off} requests were not answered")
        return 1
    say("drained")
    return 0


def _listeners(settings: Settings, model: OnnxModel, name: str, drain: Drain) -> "tuple[Listener, GrpcListener | None]":
    metrics = Metrics(model=name, version=settings.version)
    batches = model.signature.batches

    sketches = Sketches(model.signature, rows_per_second=settings.sketch_rows)
    samples = None
    if settings.sample_dir is not None:
        samples = Samples(settings.sample_dir, share=settings.sample_share, model=name, version=settings.version)

    predictions = Predictions(model.signature, samples=samples, retains=settings.sketch_rows > 0)

    def observe(inputs: Inputs, outputs: Outputs, rows: int, seconds: float) -> None:
        metrics.call(rows, seconds)
        sketches.add(inputs, outputs, rows)

    try:
        model.warm_up()
    except Refusal as refusal:
        say(f"no warm-up: {refusal}")
    batcher = Batcher(
        model.run,
        limit=settings.batch_size if batches else 1,
        slice_rows=max(settings.batch_size, _SLICE) if batches else None,
        max_waiting=4 * settings.max_rows,
        max_queue=settings.max_queue,
        quick_seconds=_QUICK_SECONDS,
        observe=observe,
    )
    budget = Budget(settings.max_in_flight)
    # one body after another, so that only one needs memory for decoding
    codec = ThreadPoolExecutor(max_workers=1, thread_name_prefix="codec")
    validity = Validity(metrics.count_invalid)
    infer = Infer(
        name=name,
        version=settings.version,
        signature=model.signature,
        batcher=batcher,
        translator=Translator(settings.model_dir, max_values=settings.max_json // JSON_BYTES_OF_A_VALUE),
        limits=Limits(body=settings.max_body, json=settings.max_json),
        max_rows=settings.max_rows,
        budget=budget,
        codec=codec,
        validity=validity,
        max_seconds=settings.max_wait,
        observer=predictions,
    )
    routes = Routes(
        name=name,
        version=settings.version,
        signature=model.signature,
        infer=infer,
        metrics=metrics,
        sketches=sketches,
        predictions=predictions,
        draining=lambda: drain.began,
        predict_route=settings.predict_route,
        health_route=settings.health_route,
        only_post=settings.only_post,
    )
    shared = _Shared(batcher, budget, codec, metrics, drain, predictions, validity)
    http2 = cache(partial(_grpc, settings, name, model.signature, shared))
    grpc = None if settings.grpc_port is None else http2()
    every_second = partial(_every_second, batcher, sketches, predictions, samples)
    listener = Listener(
        routes,
        drain=drain,
        version=settings.version,
        model=settings.model,
        every_second=every_second,
        beside=grpc,
        http2=http2,
    )
    return listener, grpc


def _every_second(batcher: Batcher, sketches: Sketches, predictions: Predictions, samples: Samples | None) -> None:
    batcher.expire()
    sketches.begin_second()

    def count() -> None:
        sketches.fold()
        predictions.fold()
        if samples is not None:
            samples.write()

    if sketches.waits or predictions.waits or (samples is not None and samples.waits):
        asyncio.get_running_loop().run_in_executor(None, count)


@dataclass(frozen=True)
class _Shared:
    """What both protocols use."""

    batcher: Batcher
    budget: Budget
    codec: Executor
    metrics: Metrics
    drain: Drain
    observer: Predictions
    validity: Validity


def _grpc(settings: Settings, name: str, signature: Signature, shared: _Shared) -> "GrpcListener":
    # HTTP/2 takes a tenth of a second to import
    from modelway.server.grpc.codec import Limits, Names
    from modelway.server.grpc.listener import GrpcListener
    from modelway.server.grpc.service import Service

    limits = Limits(
        message=settings.max_body,
        contents=settings.max_json,
        fields=settings.max_json // JSON_BYTES_OF_A_VALUE,
        rows=settings.max_rows,
    )
    service = Service(
        names=Names(name, settings.version),
        server_version=SERVER_VERSION,
        signature=signature,
        batcher=shared.batcher,
        codec=shared.codec,
        ready=lambda: not shared.drain.began,
        limits=limits,
        validity=shared.validity,
        max_seconds=settings.max_wait,
        observer=shared.observer,
    )
    return GrpcListener(
        service,
        port=settings.grpc_port or 0,
        version=settings.version,
        model=settings.model,
        metrics=shared.metrics,
        drain=shared.drain,
        budget=shared.budget,
    )


def _listening(settings: Settings, name: str, grpc: "GrpcListener | None") -> Callable[[int], None]:
    def listening(port: int) -> None:
        ports = {"port": port} if grpc is None else {"port": port, "grpc_port": grpc.port}
        if settings.run_file is not None:
            _write(settings.run_file, {"pid": os.getpid(), **ports})
        also = "" if grpc is None else f", gRPC on {settings.host}:{grpc.port}"
        say(f"{name} version {settings.version} on http://{settings.host}:{port}{also}")

    return listening


def _write(path: Path, document: Mapping[str, int]) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    with beside.open("w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
