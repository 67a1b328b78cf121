"""Idle-first micro-batching: a request that finds the model idle runs at once; a busy model's requests are gathered.

No timer is involved, so a lone client never waits for company. A request with more rows than fit into one call
is cut into slices where the model allows it, and others run between them.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from modelway.server.core.refusal import Refusal
from modelway.server.core.tensors import Array

Inputs = Mapping[str, Array]
Outputs = dict[str, Array]
Run = Callable[[Inputs], Outputs]
#: requests share a call only when names, datatypes and trailing shapes are the same; None: never shared
Key = tuple[tuple[str, str, tuple[int, ...]], ...] | None


@dataclass(frozen=True, eq=False)
class _Waiting:
    inputs: Inputs
    key: Key
    rows: int
    answer: asyncio.Future[Outputs]


class Batcher:
    """Runs requests on one worker thread, several in one call when they had to wait anyway."""

    def __init__(
        self,
        run: Run,
        *,
        limit: int,
        slice_rows: int | None = None,
        max_waiting: int | None = None,
        observe: Callable[[int], None] = lambda rows: None,
    ) -> None:
        """Prepare the worker thread.

        :param run: the model: inputs by name to outputs by name; called from the worker thread only
        :param limit: rows of one gathered call, at most; 1 turns gathering off
        :param slice_rows: rows of one call of a larger request; None: its rows stay together
        :param max_waiting: rows that requests of more than ``slice_rows`` may have waiting together
        :param observe: called with the number of rows of every call
        """
        self._run = run
        self._limit = limit
        self._slice_rows = slice_rows
        self._max_waiting = max_waiting
        self._waiting_rows = 0
        self._observe = observe
        self._queue: deque[_Waiting] = deque()
        #: slices of large requests, those of one request one at a time
        self._slices: deque[_Waiting] = deque()
        self._slice_ran = False
        self._busy = False
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._pumps: set[asyncio.Task[None]] = set()

    async def infer(self, inputs: Inputs) -> Outputs:
        """Return the outputs for ``inputs``; raises what the model raises.

        :raises Refusal: 429 when too many rows are waiting already
        """
        key, rows = _key(inputs)
        if self._slice_rows is None or key is None or rows <= self._slice_rows:
            return await self._enqueue(self._queue, inputs, key, rows)
        if self._max_waiting is not None and self._waiting_rows and self._waiting_rows + rows > self._max_waiting:
            raise Refusal(429, f"{self._waiting_rows} rows are waiting already, try again in a moment")
        self._waiting_rows += rows
        try:
            return await self._sliced(inputs, rows, self._slice_rows)
        finally:
            self._waiting_rows -= rows

    def close(self) -> None:
        """Let the worker thread end."""
        self._worker.shutdown(wait=False)

    async def _sliced(self, inputs: Inputs, rows: int, step: int) -> Outputs:
        parts: list[Outputs] = []
        for at in range(0, rows, step):
            some = {name: array[at : at + step] for name, array in inputs.items()}
            parts.append(await self._enqueue(self._slices, some, None, min(step, rows - at)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _enqueue(self, queue: deque[_Waiting], inputs: Inputs, key: Key, rows: int) -> asyncio.Future[Outputs]:
        waiting = _Waiting(inputs, key, rows, asyncio.get_running_loop().create_future())
        queue.append(waiting)
        if not self._busy:
            self._busy = True
            pump = asyncio.create_task(self._pump())
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        return waiting.answer

    async def _pump(self) -> None:
        try:
            while self._queue or self._slices:
                batch = self._next()
                if len(batch) == 1 or not await self._together(batch):
                    for waiting in batch:
                        await self._alone(waiting)
        finally:
            self._busy = False

    def _next(self) -> list[_Waiting]:
        """Take the oldest request, and with it all later ones that fit into the same call; every other time a slice."""
        self._slice_ran = bool(self._slices) and not (self._slice_ran and self._queue)
        if self._slice_ran:
            return [self._slices.popleft()]
        first = self._queue.popleft()
        batch, rows = [first], first.rows
        if first.key is None:
            return batch
        passed: deque[_Waiting] = deque()
        while self._queue and rows < self._limit:
            waiting = self._queue.popleft()
            if waiting.key == first.key and rows + waiting.rows <= self._limit:
                batch.append(waiting)
                rows += waiting.rows
            else:
                passed.append(waiting)
        self._queue.extendleft(reversed(passed))
        return batch

    async def _together(self, batch: list[_Waiting]) -> bool:
        """Run a batch in one call; False when that call failed or cannot be cut up, so that each runs alone."""
        names = batch[0].inputs
        inputs = {name: np.concatenate([waiting.inputs[name] for waiting in batch]) for name in names}
        rows = sum(waiting.rows for waiting in batch)
        try:
            outputs = await self._call(inputs, rows)
        except Exception:
            return False
        if any(array.shape[:1] != (rows,) for array in outputs.values()):
            return False
        at = 0
        for waiting in batch:
            part = {name: array[at : at + waiting.rows] for name, array in outputs.items()}
            at += waiting.rows
            if not waiting.answer.done():
                waiting.answer.set_result(part)
        return True

    async def _alone(self, waiting: _Waiting) -> None:
        try:
            outputs = await self._call(waiting.inputs, waiting.rows)
        except Exception as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
        else:
            if not waiting.answer.done():
                waiting.answer.set_result(outputs)

    async def _call(self, inputs: Inputs, rows: int) -> Outputs:
        self._observe(rows)
        return await asyncio.get_running_loop().run_in_executor(self._worker, self._run, inputs)


def _key(inputs: Inputs) -> tuple[Key, int]:
    """Return what must be equal to share a call, and the number of rows."""
    rows = {array.shape[0] if array.ndim else -1 for array in inputs.values()}
    if len(rows) != 1 or min(rows) < 1:
        return None, 1
    key = tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()))
    return key, rows.pop()
