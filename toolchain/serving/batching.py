"""Requests that wait at the same time share one call of the model; nobody waits for a timer."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

_CALL_CHARACTERS = 1 << 20


class QueueFull(Exception):
    """As many texts wait as may."""


class _Request(Generic[Answer]):
    """One request's texts, the answers that have come, and where all of them are awaited."""

    def __init__(self, texts: Sequence[str], answers: "asyncio.Future[list[Answer]]") -> None:
        self.texts = texts
        self.answers = answers
        # Texts of one length together, where they do not fit in one call.
        self._left = deque(sorted(range(len(texts)), key=lambda index: len(texts[index])))
        self._found: dict[int, Answer] = {}

    def take(self, room: int, characters: int) -> list[int]:
        """At least one of the texts that are left, by their places: so many, or until the characters are reached."""
        places: list[int] = []
        while self._left and len(places) < room and characters > 0:
            places.append(self._left.popleft())
            characters -= len(self.texts[places[-1]])
        return places

    @property
    def left(self) -> bool:
        """Whether a text is still to be taken; none is once an answer has failed, or nobody waits for it."""
        return bool(self._left) and not self.answers.done()

    def add(self, places: Sequence[int], answers: Sequence[Answer]) -> None:
        """Answers to what was taken."""
        self._found.update(zip(places, answers, strict=True))
        if len(self._found) == len(self.texts) and not self.answers.done():
            self.answers.set_result([self._found[place] for place in range(len(self.texts))])

    def fail(self, error: BaseException) -> None:
        """There will be no answer."""
        if not self.answers.done():
            self.answers.set_exception(error)


_Part = tuple[_Request[Answer], list[int]]
"""A request, and the places of those of its texts that are in a call."""


class Batcher(Generic[Answer]):
    """Lets concurrent requests share calls of `answer`, one answer a text, which runs in a thread.

    A call takes what waits, up to `call_texts`; `calls` of them run at once, and while they run the next ones are
    collected. A request that needs several calls goes to the end of the queue after each, so that a large one does not
    hold up the small ones. `limit` bounds the texts that have no answer yet. For one event loop.
    """

    def __init__(
        self,
        answer: Callable[[list[str]], list[Answer]],
        calls: int,
        call_texts: int,
        limit: int,
        on_call: Callable[[int], None] = lambda texts: None,
    ) -> None:
        self.waiting = 0
        self._answer = answer
        self._idle = calls
        self._call_texts = call_texts
        self._limit = limit
        self._on_call = on_call
        self._queue: deque[_Request[Answer]] = deque()

    @property
    def full(self) -> bool:
        """Whether not one more text would be taken."""
        return self.waiting >= self._limit

    async def submit(self, texts: Sequence[str]) -> list[Answer]:
        """One answer a text, in order. Raises `QueueFull` where they do not fit, and whatever `answer` raises."""
        if self.waiting + len(texts) > self._limit:
            raise QueueFull
        if not texts:
            return []
        loop = asyncio.get_running_loop()
        request = _Request[Answer](texts, loop.create_future())
        self.waiting += len(texts)
        self._queue.append(request)
        loop.call_soon(self._start_calls)  # soon, not now: what has arrived together goes together
        try:
            return await request.answers
        finally:
            self.waiting -= len(texts)

    def _start_calls(self) -> None:
        while self._idle and (taken := self._take()):
            self._idle -= 1
            texts = [request.texts[place] for request, places in taken for place in places]
            self._on_call(len(texts))
            call = asyncio.get_running_loop().run_in_executor(None, self._answer, texts)
            call.add_done_callback(partial(self._end_call, taken))

    def _end_call(self, taken: list[_Part[Answer]], call: "asyncio.Future[list[Answer]]") -> None:
        self._idle += 1
        error = call.exception()
        start = 0
        for request, places in taken:
            if error is not None:
                request.fail(error)
            else:
                request.add(places, call.result()[start : start + len(places)])
            start += len(places)
        self._start_calls()

    def _take(self) -> list[_Part[Answer]]:
        """The texts of the next call."""
        taken: list[_Part[Answer]] = []
        room, characters = self._call_texts, _CALL_CHARACTERS
        while self._queue and room > 0 and characters > 0:
            request = self._queue.popleft()
            if not request.left:
                continue
            places = request.take(room, characters)
            taken.append((request, places))
            room -= len(places)
            characters -= sum(len(request.texts[place]) for place in places)
            if request.left:
                self._queue.append(request)
        return taken
