"""A stop, an edit and a crash at every boundary of a turn: before and after each commit of a run.

The turn has two steps with tools, one of them a client's. It is played repeatedly; each time
something happens at the next boundary, and another worker continues from there.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import pytest

from chatd_server.agent.turn.held import Held
from chatd_server.domain.answer_parts import AnswerPart
from chatd_server.domain.chat import Status, StopReason
from chatd_server.domain.ids import ToolCallId
from chatd_server.domain.message import Role, ToolErrorKind, ToolResult
from chatd_server.ports.models import ModelRequest
from tests.domain.invariants import history_is_valid
from tests.kit.fold import fold, shown
from tests.kit.script import ScriptedModel, Spoken, calls, text
from tests.kit.world import Chat, Process, World

BOUNDARIES = 16
"""Two acquisitions, with a boundary after each; five chains and two outcomes, with one before too.
A stopped worker crosses a few more, which are not counted."""

ANSWERS: Sequence[Sequence[Spoken]] = (
    (text("One."), calls("once"), calls("again"), calls("once")),
    (text("Two."), calls("open"), calls("once")),
    (text("Three."),),
)

Happens = Callable[[Process, Chat], Awaitable[None]]


class SteadyModel(ScriptedModel):
    """A model whose answer depends only on its context."""

    async def stream(self, request: ModelRequest) -> AsyncIterator[AnswerPart]:
        """Give the next answer of the turn."""
        roles = [message.role for message in request.messages]
        behind = roles[len(roles) - roles[::-1].index(Role.USER) :]
        self.says(*ANSWERS[behind.count(Role.ASSISTANT)])
        async for part in super().stream(request):
            yield part


async def interrupt(_: Process, chat: Chat) -> None:
    """Stop the turn; the worker gets the hint."""
    await chat.interrupt()


async def interrupt_unheard(process: Process, chat: Chat) -> None:
    """Stop the turn; the worker finds out when it writes."""
    process.goes_deaf()
    await chat.interrupt()


async def edit(_: Process, chat: Chat) -> None:
    """Replace the message; the worker gets the hint."""
    await chat.edit(1, "anew")


async def edit_unheard(process: Process, chat: Chat) -> None:
    """Replace the message; the worker finds out when it writes."""
    process.goes_deaf()
    await chat.edit(1, "anew")


async def shutdown(process: Process, _: Chat) -> None:
    """Shut down cleanly."""
    process.leaves_at_once()


async def crash(process: Process, _: Chat) -> None:
    """Crash: nothing after this boundary happens."""
    process.cable.cut()


async def play(chat: Chat) -> None:
    """Follow the turn to its end, as its client."""
    rests = {Status.WAITING, Status.REQUIRES_ACTION, Status.ERROR}
    while True:
        await chat.world.when(lambda: chat.state.status in rests)
        if chat.state.status is not Status.REQUIRES_ACTION:
            return
        await chat.submit("opened")


async def play_with(happens: Happens, number: int, world: World) -> Chat | None:
    """Play a turn in which it happens at this boundary; return None if there is none."""
    chat = await world.chat("go", client_tools=["open"])
    crossed, happened = 0, asyncio.Event()

    async def cross() -> None:
        nonlocal crossed
        crossed += 1
        if crossed == number:
            await happens(first, chat)
            happened.set()

    first = world.start(f"first {number}")
    first.cable.at_boundary = cross
    playing = asyncio.create_task(play(chat))
    waiting = asyncio.create_task(happened.wait())
    await asyncio.wait({playing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if playing.done():
        await first.drain()  # the last boundary is after the last commit
    if not happened.is_set():
        waiting.cancel()
        return None
    second = world.start(f"second {number}")
    if happens is crash:
        await first.crash()
    await in_time(world, playing)
    await in_time(world, asyncio.create_task(play(chat)))  # it may have started again
    for process in (first, second):
        if not process.task.done():
            await process.drain()
    return chat


async def in_time(world: World, playing: asyncio.Task[None]) -> None:
    """Advance the time until the turn has ended: leases expire, and held rows become free."""
    while not playing.done():
        await world.clock.advance(1)
    await playing


@pytest.mark.parametrize(
    "happens", [interrupt, interrupt_unheard, edit, edit_unheard, shutdown, crash]
)
async def test_whatever_happens_at_a_boundary_loses_and_repeats_nothing(
    either: World, happens: Happens
) -> None:
    """The log has no gap, each call has one result, and no other tool runs twice."""
    either.model = SteadyModel()
    once, again = either.tool("once"), either.tool("again", idempotent=True)
    number = 0
    while (chat := await play_with(happens, number + 1, either)) is not None:
        number += 1
        messages = list(await chat.messages())
        assert fold(await chat.events()) == shown(chat.state, messages)
        history_is_valid(chat.state, messages)
        runs = Counter(context.call_id for context in once.contexts)
        assert max(runs.values(), default=1) == 1
        ran = set(runs) | {context.call_id for context in again.contexts}
        results = [result for message in messages for result in message.results]
        ends_as_it_should(happens, chat, await chat.history_texts())
        for result in results:
            is_what_happened(result, happens, ran)
    assert number >= BOUNDARIES


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("happens", [interrupt, interrupt_unheard, edit, edit_unheard, shutdown])
async def test_whatever_happens_at_a_boundary_leaves_nothing_for_the_collector(
    either: World, happens: Happens
) -> None:
    """The chat's history is freed with its last reference: a server's collector rarely runs."""
    either.model = SteadyModel()
    either.tool("once")
    either.tool("again", idempotent=True)
    number = 0
    while await play_with(happens, number + 1, either) is not None:
        number += 1
        assert [it.id for it in gc.get_objects() if isinstance(it, Held)] == [], number
    assert number >= BOUNDARIES


def ends_as_it_should(happens: Happens, chat: Chat, texts: Sequence[str]) -> None:
    """Check the end of a turn against what happened in it."""
    stop_reason, answers = chat.state.stop_reason, [it for it in texts[1:] if it]
    if happens in {interrupt, interrupt_unheard} and stop_reason is StopReason.INTERRUPTED:
        assert answers == ["One.", "Two.", "Three."][: len(answers)]
        return
    assert stop_reason is StopReason.END_TURN
    assert texts[0] == ("anew" if happens in {edit, edit_unheard} else "go")
    assert answers == ["One.", "Two.", "Three."]


def is_what_happened(result: ToolResult, happens: Happens, ran: set[ToolCallId]) -> None:
    """Check the result of a call against whether its tool ran, which takes no time here."""
    if result.error is None:
        assert result.name == "open" or result.call_id in ran
    elif happens is crash:
        assert result.error is ToolErrorKind.OUTCOME_UNKNOWN
        assert result.name == "once"
    else:
        assert result.call_id not in ran, "the output of a tool is lost"
