"""Idle-first micro-batching: a request that finds the model idle runs at once; a busy model's requests are gathered.

No timer is involved, so a lone client never waits for company, nor for the next turn of the event loop. A request
with more rows than fit into one call is cut into slices where the model allows it, and others run between them. Calls
of a model that is quick run on the event loop, where the requests of one turn of the loop are gathered: handing a call
to another thread takes as long.
"""

import asyncio
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from modelway.server.core.refusal import Refusal
from modelway.server.core.tensors import Array

Inputs = Mapping[str, Array]
Outputs = dict[str, Array]
Run = Callable[[Inputs], Outputs]
#: receives the outputs, or what the model raised
Done = Callable[[Outputs | Exception], None]
#: receives the inputs and outputs of a call, its rows, and its seconds
Observe = Callable[[Inputs, Outputs, int, float], None]
#: requests share a call only when names, datatypes and trailing shapes are the same; None: never shared
Key = tuple[tuple[str, np.dtype[np.generic], tuple[int, ...]], ...] | None

#: bytes of inputs that do not show how long a call takes
_FEW_BYTES = 64 << 10
#: by how much the time of the slowest call counts less with each later call
_FORGET = 0.98


class Waiting:
    """One request, or one slice of it, until it has run."""

    __slots__ = ("done", "inputs", "key", "rows", "runs", "until")

    def __init__(self, inputs: Inputs, key: Key, rows: int, done: Done, until: float) -> None:
        """Keep what is needed to run it."""
        self.inputs, self.key, self.rows, self.until = inputs, key, rows, until
        self.done: Done | None = done
        self.runs = False

    def abandon(self) -> None:
        """Do not run it, if it does not run yet, and call nothing."""
        self.done = None
        self._drop_inputs()

    def finish(self, outputs: Outputs | Exception) -> None:
        """Hand the outputs over, once."""
        done, self.done = self.done, None
        self._drop_inputs()
        if done is not None:
            done(outputs)

    def _drop_inputs(self) -> None:
        # its share of the memory is free from now on
        if not self.runs:
            self.inputs = {}


class Batcher:
    """Runs requests one call at a time, several in one call when they had to wait anyway; used on the event loop."""

    def __init__(
        self,
        run: Run,
        *,
        limit: int,
        slice_rows: int | None = None,
        max_waiting: int | None = None,
        max_queue: int | None = None,
        quick_seconds: float = 0.0,
        observe: Observe = lambda inputs, outputs, rows, seconds: None,
    ) -> None:
        """Prepare the worker thread.

        :param run: the model: inputs by name to outputs by name; one call at a time
        :param limit: rows of one gathered call, at most; 1 turns gathering off
        :param slice_rows: rows of one call of a larger request; None: its rows stay together
        :param max_waiting: rows that requests of more than ``slice_rows`` may have waiting together
        :param max_queue: requests that may wait together
        :param quick_seconds: CPU seconds of a call up to which calls run on the event loop instead of the worker
            thread; the slowest one of late decides, and a first call never does
        :param observe: called after every call that succeeded, on the thread that it ran on
        """
        self._run = run
        self._limit = limit
        self._slice_rows = slice_rows
        self._max_waiting = max_waiting
        self._max_queue = max_queue
        self._quick_seconds = quick_seconds
        #: CPU seconds of the slowest call of late
        self._slowest = math.inf
        #: CPU seconds of this thread when a lone client's last answer had left; None: something else ran since
        self._cpu_before: float | None = None
        #: bytes of the inputs of the largest call that was quick, or that are few
        self._quick_bytes = _FEW_BYTES
        self._waiting_rows = 0
        self._observe = observe
        self._queue: deque[Waiting] = deque()
        #: slices of large requests, those of one request one at a time
        self._slices: deque[Waiting] = deque()
        self._slice_ran = False
        self._busy = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._tasks: set[asyncio.Task[None]] = set()

    async def infer(self, inputs: Inputs, *, until: float = math.inf) -> Outputs:
        """Return the outputs for ``inputs``; raises what the model raises.

        :param until: when it must have begun to run, on the clock of ``time.monotonic``
        :raises Refusal: 429 when too much is waiting already, 503 when its time has passed
        """
        key, rows = _key(inputs)
        if self._slice_rows is None or key is None or rows <= self._slice_rows:
            return await self._outputs(self._queue, inputs, key, rows, until)
        if self._max_waiting is not None and self._waiting_rows and self._waiting_rows + rows > self._max_waiting:
            raise Refusal(429, f"{self._waiting_rows} rows are waiting already, try again in a moment")
        self._waiting_rows += rows
        try:
            return await self._sliced(inputs, rows, self._slice_rows, until)
        finally:
            self._waiting_rows -= rows

    def submit(self, inputs: Inputs, done: Done, *, until: float = math.inf, alone: bool = False) -> Waiting | None:
        """As :meth:`infer`, but call ``done``; what is returned for a request that is not cut can be abandoned.

        :param alone: nobody could send one that joins it in this turn of the event loop: a quick call runs at once
        :raises Refusal: 429 when too much is waiting already
        """
        key, rows = _key(inputs)
        if self._slice_rows is None or key is None or rows <= self._slice_rows:
            if alone and not self._busy:
                batch = [Waiting(inputs, key, rows, done, until)]
                if self._is_quick(size := _size(batch)):
                    # counted when the answer has left: a lone client waits for nothing else
                    self._settle(batch, self._attempt(batch, size, cpu=self._cpu_before, count=self._count_later))
                    return None
            return self._enqueue(self._queue, inputs, key, rows, done, until)

        async def sliced() -> None:
            try:
                outputs: Outputs | Exception = await self.infer(inputs, until=until)
            except Exception as error:
                outputs = error
            done(outputs)

        self._start(sliced())
        return None

    def expire(self) -> None:
        """Refuse the requests whose time has passed, also while a long call runs."""
        now = time.monotonic()
        for queue in (self._queue, self._slices):
            # a copy: who gets a refusal may send the next request at once
            for waiting in list(queue):
                if waiting.until < now:
                    waiting.finish(_expired())

    def close(self) -> None:
        """Let the worker thread end."""
        self._worker.shutdown(wait=False)

    async def _sliced(self, inputs: Inputs, rows: int, step: int, until: float) -> Outputs:
        parts: list[Outputs] = []
        for at in range(0, rows, step):
            some = {name: array[at : at + step] for name, array in inputs.items()}
            parts.append(await self._outputs(self._slices, some, None, min(step, rows - at), until))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    async def _outputs(self, queue: deque[Waiting], inputs: Inputs, key: Key, rows: int, until: float) -> Outputs:
        answer: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

        def done(outputs: Outputs | Exception) -> None:
            if answer.done():
                return
            if isinstance(outputs, Exception):
                answer.set_exception(outputs)
            else:
                answer.set_result(outputs)

        waiting = self._enqueue(queue, inputs, key, rows, done, until)
        try:
            return await answer
        except asyncio.CancelledError:
            waiting.abandon()
            raise

    def _enqueue(self, queue: deque[Waiting], inputs: Inputs, key: Key, rows: int, done: Done, until: float) -> Waiting:
        if self._max_queue is not None and len(queue) >= self._max_queue:
            raise Refusal(429, f"{len(queue)} requests are waiting already, try again in a moment")
        waiting = Waiting(inputs, key, rows, done, until)
        queue.append(waiting)
        if not self._busy:
            self._busy = True
            # not now: what else comes in this turn of the event loop joins
            asyncio.get_running_loop().call_soon(self._step)
        return waiting

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _step(self) -> None:
        """Run the next batch, here where that is quick."""
        batch = self._next()
        self._cpu_before = None
        for waiting in batch:
            waiting.runs = True
        if not batch:
            self._busy = False
        elif self._is_quick(size := _size(batch)):
            if not self._settle(batch, self._attempt(batch, size)):
                for waiting in batch:
                    self._settle([waiting], self._attempt([waiting], _size([waiting])))
            self._step_on()
        else:
            self._start(self._aside(batch, size))

    def _is_quick(self, size: int) -> bool:
        """Whether a call with inputs of ``size`` bytes may run on the event loop."""
        return self._slowest <= self._quick_seconds and size <= 2 * self._quick_bytes

    def _step_on(self) -> None:
        """Run the next batch after a turn of the event loop, in which answers leave and further requests come."""
        if self._queue or self._slices:
            asyncio.get_running_loop().call_soon(self._step)
        else:
            self._busy = False

    async def _aside(self, batch: list[Waiting], size: int) -> None:
        """Run a batch in the worker thread."""
        run_in_executor = asyncio.get_running_loop().run_in_executor
        if not self._settle(batch, await run_in_executor(self._worker, self._attempt, batch, size)):
            for waiting in batch:
                outputs = await run_in_executor(self._worker, self._attempt, [waiting], _size([waiting]))
                self._settle([waiting], outputs)
        self._step_on()

    def _next(self) -> list[Waiting]:
        """Take the oldest request, and with it all later ones that fit into the same call; every other time a slice."""
        now = time.monotonic()
        for queue in (self._queue, self._slices):
            while queue and (queue[0].done is None or queue[0].until < now):
                queue.popleft().finish(_expired())
        self._slice_ran = bool(self._slices) and not (self._slice_ran and self._queue)
        if self._slice_ran:
            return [self._slices.popleft()]
        if not self._queue:
            return []
        first = self._queue.popleft()
        batch, rows = [first], first.rows
        if first.key is None:
            return batch
        passed: deque[Waiting] = deque()
        while self._queue and rows < self._limit:
            waiting = self._queue.popleft()
            if waiting.done is None:
                continue
            if waiting.key == first.key and rows + waiting.rows <= self._limit:
                batch.append(waiting)
                rows += waiting.rows
            else:
                passed.append(waiting)
        self._queue.extendleft(reversed(passed))
        return batch

    def _attempt(
        self, batch: list[Waiting], size: int, *, cpu: float | None = None, count: Observe | None = None
    ) -> Outputs | Exception:
        """Run a batch, whose inputs have ``size`` bytes, in one call; return what the model raises.

        :param cpu: CPU seconds of this thread a moment ago, where they are known
        :param count: called after a call that succeeded; default: ``_count``
        """
        inputs, rows = batch[0].inputs, batch[0].rows
        # CPU seconds of this thread: waiting for a busy machine is not slowness
        before, began = time.thread_time() if cpu is None else cpu, time.perf_counter()
        try:
            if len(batch) > 1:
                inputs = {name: np.concatenate([waiting.inputs[name] for waiting in batch]) for name in inputs}
                rows = sum(waiting.rows for waiting in batch)
            outputs = self._run(inputs)
        except Exception as error:
            return error
        finally:
            seconds = took = time.perf_counter() - began
            # Asking the kernel takes a twentieth of a small request. A call that was quick by the clock was quick.
            if cpu is None or seconds > self._quick_seconds:
                took = time.thread_time() - before
            self._slowest = took if self._slowest == math.inf else max(took, self._slowest * _FORGET)
            if size > self._quick_bytes and took <= self._quick_seconds:
                self._quick_bytes = size
        (count or self._count)(inputs, outputs, rows, seconds)
        return outputs

    def _count(self, inputs: Inputs, outputs: Outputs, rows: int, seconds: float) -> None:
        try:
            self._observe(inputs, outputs, rows, seconds)
        except Exception as error:
            # such as too little memory; the outputs are there nevertheless
            print(f"modelway.server: a call was not counted ({error!r})", file=sys.stderr, flush=True)

    def _count_later(self, inputs: Inputs, outputs: Outputs, rows: int, seconds: float) -> None:
        """Count in the next turn of the event loop, before anything that comes after the answer is read."""

        def count() -> None:
            self._count(inputs, outputs, rows, seconds)
            self._cpu_before = time.thread_time()

        asyncio.get_running_loop().call_soon(count)

    def _settle(self, batch: list[Waiting], outputs: Outputs | Exception) -> bool:
        """Hand the outputs of a call over; False when it failed or cannot be cut up, so that each must run alone."""
        if len(batch) == 1:
            batch[0].finish(outputs)
            return True
        if isinstance(outputs, Exception):
            return False
        rows = sum(waiting.rows for waiting in batch)
        if any(array.shape[:1] != (rows,) for array in outputs.values()):
            return False
        at = 0
        for waiting in batch:
            end = at + waiting.rows
            waiting.finish({name: array[at:end] for name, array in outputs.items()})
            at = end
        return True


def _size(batch: list[Waiting]) -> int:
    size = 0
    for waiting in batch:
        for array in waiting.inputs.values():
            size += array.nbytes
    return size


def _expired() -> Refusal:
    return Refusal(503, "the request waited longer than it may, the model is busy")


def _key(inputs: Inputs) -> tuple[Key, int]:
    """Return what must be equal to share a call, and the number of rows."""
    if len(inputs) == 1:
        # what most models have, without the detours
        ((name, array),) = inputs.items()
        return (((name, array.dtype, array.shape[1:]),), array.shape[0]) if array.shape[:1] > (0,) else (None, 1)
    rows = {array.shape[0] if array.ndim else -1 for array in inputs.values()}
    if len(rows) != 1 or min(rows) < 1:
        return None, 1
    return tuple(sorted((name, array.dtype, array.shape[1:]) for name, array in inputs.items())), rows.pop()
