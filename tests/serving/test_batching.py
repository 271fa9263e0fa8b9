"""Requests that wait together go together, in order, and a large one does not hold up a small one."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

import pytest

from toolchain.serving.batching import Batcher, QueueFull

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(asyncio.wait_for(work, 300))


class Model:
    """Answers a text with its capitals, one call after another, each when it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self._let_go = threading.Semaphore(0)

    def answer(self, texts: list[str]) -> list[str]:
        self.calls.append(texts)
        assert self._let_go.acquire(timeout=300)
        if "bad" in texts:
            raise ValueError("bad")
        return [text.upper() for text in texts]

    def let_go(self, calls: int) -> None:
        self._let_go.release(calls)

    async def is_called(self, times: int) -> None:
        while len(self.calls) < times:
            await asyncio.sleep(0.001)


def batcher(model: Model, calls: int = 1, call_texts: int = 4, limit: int = 100) -> Batcher[str]:
    return Batcher(model.answer, calls, call_texts, limit)


async def begin(batcher: Batcher[str], requests: Sequence[Sequence[str]]) -> list["asyncio.Task[list[str]]"]:
    """Requests that came one after the other; all of them wait now."""
    tasks = [asyncio.create_task(batcher.submit(texts)) for texts in requests]
    await asyncio.sleep(0)
    return tasks


def test_what_comes_while_a_call_runs_shares_the_next_ones() -> None:
    model = Model()
    model.let_go(3)

    async def work() -> list[list[str]]:
        batching = batcher(model)
        first = await begin(batching, [["a"]])
        await asyncio.sleep(0)
        return await asyncio.gather(*first, *await begin(batching, [["b", "c"], ["d"], ["e", "f"], []]))

    assert run(work()) == [["A"], ["B", "C"], ["D"], ["E", "F"], []]
    assert model.calls == [["a"], ["b", "c", "d", "e"], ["f"]]


def test_a_request_of_many_texts_lets_the_others_in_between() -> None:
    model = Model()

    async def work() -> None:
        batching = batcher(model)
        (large,) = await begin(batching, [[f"{number:02}" for number in range(12)]])
        await model.is_called(1)
        (small,) = await begin(batching, [["x"]])
        model.let_go(3)
        assert await small == ["X"]
        assert not large.done()
        model.let_go(1)
        assert await large == [f"{number:02}" for number in range(12)]

    run(work())
    assert [len(call) for call in model.calls] == [4, 4, 4, 1]


def test_texts_of_one_length_go_together_and_the_answers_stand_in_order() -> None:
    model = Model()
    model.let_go(2)
    texts = ["a", "bbbb", "c", "dddd", "e", "ffff", "g", "hhhh"]
    assert run(batcher(model).submit(texts)) == [text.upper() for text in texts]
    assert sorted(map(sorted, model.calls)) == [["a", "c", "e", "g"], ["bbbb", "dddd", "ffff", "hhhh"]]


def test_as_many_calls_run_at_once_as_may() -> None:
    model = Model()

    async def work() -> None:
        batching = batcher(model, calls=2)
        tasks = await begin(batching, [["a"] * 4, ["b"] * 4, ["c"] * 4])
        await model.is_called(2)
        await asyncio.sleep(0.05)
        assert len(model.calls) == 2
        model.let_go(3)
        await asyncio.gather(*tasks)

    run(work())
    assert len(model.calls) == 3


def test_an_error_reaches_those_whose_call_it_was_and_nobody_else() -> None:
    model = Model()
    model.let_go(2)

    async def work() -> list[Any]:
        batching = batcher(model)
        return await asyncio.gather(*await begin(batching, [["bad", "a"], ["b", "c"], ["d"]]), return_exceptions=True)

    failed, also_failed, fine = run(work())
    assert isinstance(failed, ValueError)
    assert isinstance(also_failed, ValueError)
    assert fine == ["D"]


def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    model = Model()

    async def work() -> Batcher[str]:
        batching = batcher(model)
        first, gone, last = await begin(batching, [["a"] * 4, ["b"] * 4, ["c"]])
        await model.is_called(1)
        gone.cancel()
        model.let_go(2)
        assert await first == ["A"] * 4
        assert await last == ["C"]
        return batching

    assert run(work()).waiting == 0
    assert model.calls == [["a"] * 4, ["c"]]


def test_more_texts_than_the_limit_are_refused_whole_and_a_full_queue_empties() -> None:
    model = Model()

    async def work() -> None:
        batching = batcher(model, limit=5)
        tasks = await begin(batching, [["a"] * 4])
        with pytest.raises(QueueFull):
            await batching.submit(["b", "c"])
        tasks += await begin(batching, [["d"]])
        assert (batching.waiting, batching.full) == (5, True)
        model.let_go(2)
        await asyncio.gather(*tasks)
        assert (batching.waiting, batching.full) == (0, False)

    run(work())


def test_a_call_holds_a_bounded_number_of_characters() -> None:
    model = Model()
    model.let_go(3)

    async def work() -> None:
        await asyncio.gather(*await begin(batcher(model), [["x" * (1 << 20)], ["y"], ["z"]]))

    run(work())
    assert [len(call) for call in model.calls] == [1, 2]
