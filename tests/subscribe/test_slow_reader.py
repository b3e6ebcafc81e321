"""Guarantee 3: a reader that stops reading costs only itself."""

import gc
import tracemalloc
from collections.abc import Coroutine, Generator
from typing import Any

from chatd.v1 import chat_pb2
from chatd_server.domain.limits import KIB, MIB
from chatd_server.domain.live import PieceKind
from tests.subscribe.scene import Chat, Edge


class Turns:
    """Awaits something and counts how often it gave the loop back."""

    def __init__(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = work
        self.count = 0

    def __await__(self) -> Generator[Any, Any, None]:
        steps = self._work.__await__()
        value = None
        while True:
            try:
                waits_for = steps.send(value)
            except StopIteration:
                return
            self.count += 1
            value = yield waits_for


ANSWER_BYTES = 512 * KIB
ANSWERS = 40


async def speak(chat: Chat, answers: int, spoken: list[str]) -> None:
    """Say much, in many attempts of many pieces."""
    for number in range(answers):
        writer = await chat.begin()
        piece = f"{number:04}" * (16 * KIB)
        for _ in range(ANSWER_BYTES // len(piece)):
            writer.append(0, PieceKind.TEXT, piece)
        await chat.commit(piece * (ANSWER_BYTES // len(piece)))
        spoken.append(chat.attempt_id)


async def test_guarantee_3_a_reader_that_stopped_slows_nobody_and_loses_nothing(
    edge: Edge,
) -> None:
    """20 MB later: as many loop turns as without it, little memory, and then all of it."""
    chat = await edge.chat()
    alone = Turns(speak(chat, ANSWERS, []))
    await alone
    stopped = edge.follow(chat.id, resume_from=chat_pb2.Cursor(sequence=chat.state.head_sequence))
    await stopped.until("caught_up")
    spoken: list[str] = []
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        watched = Turns(speak(chat, ANSWERS, spoken))
        await watched
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert watched.count == alone.count
    assert ANSWERS * ANSWER_BYTES >= 20 * MIB
    assert after - before < 8 * MIB
    level = edge.follow(chat.id, resume_from=chat_pb2.Cursor(sequence=chat.state.head_sequence))
    await level.until("caught_up")
    await chat.answer("done")
    await level.until("message_committed")
    await stopped.until_sequence(chat.state.head_sequence)
    assert all(stopped.complete(attempt_id) for attempt_id in spoken)
    await stopped.close()
    await level.close()
