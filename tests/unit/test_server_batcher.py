"""Idle-first batching: what runs alone, what runs together, and in which order."""

import asyncio
import threading
import time
from collections.abc import Mapping

import numpy as np
import pytest
from modelway.server.core.batcher import Batcher
from modelway.server.core.refusal import Refusal
from modelway.server.core.tensors import Array


class Model:
    """Doubles x; the first call waits until it is let go, so that requests pile up behind it."""

    def __init__(self, *, hold: bool = True) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.threads: set[int] = set()
        self.go = threading.Event()
        if not hold:
            self.go.set()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.threads.add(threading.get_ident())
        self.calls.append(inputs["x"].shape)
        assert self.go.wait(10)
        if (inputs["x"] < 0).any():
            raise ValueError("negative")
        return {"y": inputs["x"] * 2}


def rows(number: int, width: int = 3, value: float = 1) -> dict[str, Array]:
    return {"x": np.full((number, width), value, dtype=np.float32)}


def answer_all(
    model: Model, requests: list[dict[str, Array]], *, limit: int = 8, **options: int | None
) -> list[object]:
    """Send the first request, the others while it runs, and return what came back."""

    async def main() -> list[object]:
        batcher = Batcher(model.run, limit=limit, **options)
        tasks = [asyncio.create_task(batcher.infer(request)) for request in requests[:1]]
        while not model.calls:
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(batcher.infer(request)) for request in requests[1:]]
        await asyncio.sleep(0)
        model.go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        batcher.close()
        return list(results)

    return asyncio.run(main())


def test_first_runs_at_once_and_the_rest_is_gathered() -> None:
    model = Model()
    answers = answer_all(model, [rows(1, value=value) for value in range(6)])
    assert model.calls == [(1, 3), (5, 3)]
    assert [answer["y"].tolist() for answer in answers] == [[[2.0 * value] * 3] for value in range(6)]  # type: ignore[index]
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


def test_limit_caps_a_call_but_not_a_request() -> None:
    model = Model()
    answers = answer_all(model, [rows(1), rows(2), rows(2), rows(9), rows(1)], limit=4)
    assert model.calls == [(1, 3), (4, 3), (9, 3), (1, 3)]
    assert [len(answer["y"]) for answer in answers] == [1, 2, 2, 9, 1]  # type: ignore[index]


def test_other_shapes_are_not_mixed_and_nobody_starves() -> None:
    model = Model()
    answer_all(model, [rows(1), rows(1, 3), rows(1, 5), rows(1, 3), rows(1, 5)])
    assert model.calls == [(1, 3), (2, 3), (2, 5)]


def test_limit_of_one_gathers_nothing() -> None:
    model = Model()
    answer_all(model, [rows(1)] * 4, limit=1)
    assert model.calls == [(1, 3)] * 4


def test_one_bad_request_fails_alone() -> None:
    model = Model()
    answers = answer_all(model, [rows(1), rows(1, value=1), rows(1, value=-1), rows(1, value=2)])
    assert model.calls == [(1, 3), (3, 3), (1, 3), (1, 3), (1, 3)]
    assert isinstance(answers[2], ValueError)
    assert [answers[at]["y"][0, 0] for at in (1, 3)] == [2.0, 4.0]  # type: ignore[index]


def test_large_requests_are_cut_into_slices_and_others_run_between() -> None:
    model = Model()
    large = {"x": np.arange(30, dtype=np.float32).reshape(10, 3)}
    answers = answer_all(model, [rows(1), large, rows(1), rows(3, 5), large, rows(2)], slice_rows=4)
    assert model.calls == [(1, 3), (4, 3), (3, 3), (4, 3), (3, 5), (4, 3), (4, 3), (2, 3), (2, 3)]
    for at in (1, 4):
        assert np.array_equal(answers[at]["y"], large["x"] * 2)  # type: ignore[index]


def test_a_slice_that_fails_fails_its_request_alone() -> None:
    model = Model()
    bad = rows(6)
    bad["x"][5] = -1
    answers = answer_all(model, [rows(1), bad, rows(6)], slice_rows=4)
    assert isinstance(answers[1], ValueError)
    assert len(answers[2]["y"]) == 6  # type: ignore[index]


def test_too_many_rows_at_a_time_are_refused_but_for_small_requests() -> None:
    answers = answer_all(Model(), [rows(20), rows(20), rows(20), rows(4)], slice_rows=4, max_waiting=40)
    assert isinstance(answers[2], Refusal)
    assert answers[2].status == 429
    assert [len(answers[at]["y"]) for at in (0, 1, 3)] == [20, 20, 4]  # type: ignore[index]


def test_outputs_without_rows_are_not_cut_up() -> None:
    def total(inputs: Mapping[str, Array]) -> dict[str, Array]:
        model.run(inputs)
        return {"y": np.array(inputs["x"].sum())}

    model = Model()

    async def main() -> list[dict[str, Array]]:
        batcher = Batcher(total, limit=8)
        first = asyncio.create_task(batcher.infer(rows(1)))
        while not model.calls:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(batcher.infer(rows(1, value=value))) for value in (2, 3)]
        await asyncio.sleep(0)
        model.go.set()
        return await asyncio.gather(first, *rest)

    assert [float(answer["y"]) for answer in asyncio.run(main())] == [3.0, 6.0, 9.0]


def test_a_lone_request_does_not_wait() -> None:
    async def main() -> float:
        batcher = Batcher(Model(hold=False).run, limit=8)
        await batcher.infer(rows(1))
        clock = asyncio.get_running_loop().time
        times = []
        for _ in range(50):
            began = clock()
            await batcher.infer(rows(1))
            times.append(clock() - began)
        return sorted(times)[len(times) // 2]

    assert asyncio.run(main()) == pytest.approx(0, abs=0.002)


def test_a_quick_model_runs_on_the_event_loop_where_one_turn_is_gathered() -> None:
    model = Model(hold=False)

    async def main() -> list[dict[str, Array]]:
        batcher = Batcher(model.run, limit=4, slice_rows=4, quick_seconds=60)
        # the first call shows how quick it is
        await batcher.infer(rows(1))
        model.threads.clear()
        return await asyncio.gather(*(batcher.infer(rows(size)) for size in (1, 1, 9, 1, 1)))

    answers = asyncio.run(main())
    assert model.threads == {threading.get_ident()}
    assert model.calls == [(1, 3), (4, 3), (4, 3), (4, 3), (1, 3)]
    assert [len(answer["y"]) for answer in answers] == [1, 1, 9, 1, 1]


def test_a_request_that_nothing_can_join_runs_at_once_where_the_model_is_quick_and_idle() -> None:
    model = Model(hold=False)
    seen: list[object] = []

    async def main() -> list[int]:
        batcher = Batcher(model.run, limit=4, quick_seconds=60)
        found = []
        # the first call shows how quick it is
        for _ in range(2):
            batcher.submit(rows(1), seen.append, alone=True)
            found.append(len(seen))
            while len(seen) < len(found):
                await asyncio.sleep(0.001)
        # one that waits for its turn is not overtaken
        batcher.submit(rows(1), seen.append)
        batcher.submit(rows(1, value=-1), seen.append, alone=True)
        found.append(len(seen))
        while len(seen) < 4:
            await asyncio.sleep(0.001)
        batcher.submit(rows(1, value=-1), seen.append, alone=True)
        found.append(len(seen))
        batcher.close()
        return found

    assert asyncio.run(main()) == [0, 2, 2, 5]
    assert [isinstance(each, ValueError) for each in seen] == [False, False, False, True, True]


def test_a_model_that_was_slow_does_not_run_on_the_event_loop() -> None:
    model = Model(hold=False)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        end = time.thread_time() + 0.02 * (inputs["x"][0, 0] == 7)
        while time.thread_time() < end:
            pass
        return model.run(inputs)

    async def main() -> None:
        batcher = Batcher(run, limit=4, quick_seconds=0.01)
        for value in (1, 7, 1):
            model.threads.clear()
            await batcher.infer(rows(1, value=value))

    asyncio.run(main())
    assert threading.get_ident() not in model.threads


def test_one_bad_request_fails_alone_on_the_event_loop() -> None:
    model = Model(hold=False)

    async def main() -> list[object]:
        batcher = Batcher(model.run, limit=4, quick_seconds=60)
        await batcher.infer(rows(1))
        requests = [batcher.infer(rows(1, value=value)) for value in (1, -1, 2)]
        return list(await asyncio.gather(*requests, return_exceptions=True))

    answers = asyncio.run(main())
    assert isinstance(answers[1], ValueError)
    assert [answers[at]["y"][0, 0] for at in (0, 2)] == [2.0, 4.0]  # type: ignore[index]


def test_requests_beyond_the_queue_are_refused_at_once() -> None:
    answers = answer_all(Model(), [rows(1)] * 6, max_queue=3)
    assert [isinstance(answer, Refusal) and answer.status for answer in answers] == [False] * 4 + [429] * 2


def test_a_request_that_waited_too_long_or_was_abandoned_does_not_run() -> None:
    model = Model()

    async def main() -> tuple[list[object], list[object]]:
        batcher = Batcher(model.run, limit=1)
        first = asyncio.create_task(batcher.infer(rows(1)))
        while not model.calls:
            await asyncio.sleep(0.001)
        found: list[object] = []
        late = asyncio.create_task(batcher.infer(rows(2), until=time.monotonic() - 1))
        abandoned = batcher.submit(rows(3), found.append)
        assert abandoned is not None
        abandoned.abandon()
        cancelled = asyncio.create_task(batcher.infer(rows(4)))
        await asyncio.sleep(0)
        cancelled.cancel()
        # also while the first call runs
        batcher.expire()
        await asyncio.wait([late])
        model.go.set()
        await batcher.infer(rows(5))
        return list(await asyncio.gather(first, late, cancelled, return_exceptions=True)), found

    (_, late, cancelled), found = asyncio.run(main())
    assert isinstance(late, Refusal)
    assert (late.status, found) == (503, [])
    assert isinstance(cancelled, asyncio.CancelledError)
    assert model.calls == [(1, 3), (5, 3)]


def test_a_call_that_cannot_be_counted_is_answered_and_others_follow() -> None:
    seen: list[int] = []

    def observe(inputs: object, outputs: object, count: int, seconds: float) -> None:
        seen.append(count)
        if len(seen) == 1:
            raise MemoryError("no room for a copy")

    model = Model(hold=False)

    async def main() -> list[object]:
        batcher = Batcher(model.run, limit=8, observe=observe)
        found: list[object] = [await asyncio.wait_for(batcher.infer(rows(1)), 10) for _ in range(2)]
        batcher.close()
        return found

    assert len(asyncio.run(main())) == 2
    assert seen == [1, 1]


def test_a_lone_request_is_counted_after_its_answer_and_before_what_comes_next() -> None:
    order: list[str] = []

    def observe(inputs: object, outputs: object, count: int, seconds: float) -> None:
        order.append(f"counted {count}")

    async def main() -> None:
        batcher = Batcher(Model(hold=False).run, limit=8, quick_seconds=60, observe=observe)
        await batcher.infer(rows(1))
        batcher.submit(rows(1), lambda outputs: order.append("answered"), alone=True)
        await asyncio.sleep(0)
        order.append("next turn")
        batcher.close()

    asyncio.run(main())
    assert order == ["counted 1", "answered", "counted 1", "next turn"]


def test_whoever_is_refused_may_send_the_next_request_at_once() -> None:
    model = Model()

    async def main() -> list[object]:
        batcher, answers = Batcher(model.run, limit=8), list[object]()
        batcher.submit(rows(1), answers.append)
        while not model.calls:
            await asyncio.sleep(0.001)

        def again(outputs: object) -> None:
            answers.append(outputs)
            batcher.submit(rows(1, value=2), answers.append)

        for _ in range(3):
            batcher.submit(rows(1), again, until=0)
        batcher.expire()
        model.go.set()
        while len(answers) < 7:
            await asyncio.sleep(0.001)
        batcher.close()
        return answers

    answers = asyncio.run(asyncio.wait_for(main(), 20))
    assert sum(isinstance(answer, Refusal) for answer in answers) == 3


def test_a_request_whose_client_left_holds_no_inputs() -> None:
    model = Model()

    async def main() -> None:
        batcher = Batcher(model.run, limit=1)
        first = batcher.submit(rows(1), lambda outputs: None)
        while not model.calls:
            await asyncio.sleep(0.001)
        waiting = batcher.submit(rows(8), lambda outputs: None)
        for each in (first, waiting):
            each.abandon()
        assert first.inputs, "it runs"
        assert not waiting.inputs
        model.go.set()
        assert await batcher.infer(rows(1, value=3)) is not None
        batcher.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_much_larger_call_of_a_quick_model_leaves_the_event_loop_free() -> None:
    model = Model(hold=False)

    async def main() -> int:
        batcher = Batcher(model.run, limit=8, quick_seconds=10)
        for _ in range(3):
            await batcher.infer(rows(1))
        assert await _threads_of(batcher, model, rows(1)) == {threading.get_ident()}
        aside = await _threads_of(batcher, model, rows(1, width=100_000))
        batcher.close()
        return len(aside - {threading.get_ident()})

    assert asyncio.run(main()) == 1


async def _threads_of(batcher: Batcher, model: Model, request: dict[str, Array]) -> set[int]:
    model.threads.clear()
    await batcher.infer(request)
    return set(model.threads)
