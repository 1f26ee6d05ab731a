"""Asks one question for all who want something of the same kind at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from .errors import DatabaseUnavailable

Key = TypeVar("Key")
Answer = TypeVar("Answer")

Asking = Callable[[Sequence[Key]], Awaitable[Mapping[Key, Answer]]]


class Gathering(Generic[Key, Answer]):
    """While one question is on its way, what is asked waits for the next: of `most` keys, and answered with None where
    a key is not in the answer. However many ask, one question is asked at a time.
    """

    def __init__(self, ask: Asking[Key, Answer], most: int, name: str) -> None:
        self._ask = ask
        self._most = most
        self._name = name
        self._wanted: dict[Key, asyncio.Future[Answer | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def find(self, key: Key) -> Answer | None:
        """The answer for a key. Raises what the question raises."""
        answer = self._wanted.get(key)
        if answer is None:
            answer = self._wanted[key] = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer_all(), name=self._name)
        return await asyncio.shield(answer)

    async def _answer_all(self) -> None:
        while self._wanted:
            asked = dict(list(self._wanted.items())[: self._most])
            for key in asked:
                del self._wanted[key]  # who asks from now on may ask about something newer
            await self._answer(asked)

    async def _answer(self, asked: Mapping[Key, asyncio.Future[Answer | None]]) -> None:
        try:
            found = await self._ask(list(asked))
        except Exception as error:
            if len(asked) > 1 and not isinstance(error, DatabaseUnavailable):
                for key, answer in asked.items():  # what is wrong with one of them is not the others'
                    await self._answer({key: answer})
                return
            for answer in asked.values():
                if not answer.done():
                    answer.set_exception(error)
                    answer.exception()  # whoever waits is told; perhaps nobody does any more
        else:
            for key, answer in asked.items():
                if not answer.done():
                    answer.set_result(found.get(key))
