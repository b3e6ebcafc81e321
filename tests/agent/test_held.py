"""A held chat: who may write, and the meaning of a refusal."""

import asyncio
from pathlib import Path

import pytest

from chatd_server.agent.turn.held import Held
from chatd_server.agent.turn.loop import run_turn
from chatd_server.agent.turn.stop import Stop, StopCause, Stopped
from chatd_server.domain.chat import AttemptKind, Status
from chatd_server.domain.command import (
    Acquire,
    CommitAnswer,
    RequireAction,
    ScheduleRetry,
    StartAttempt,
)
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import AttemptId, WorkerId
from chatd_server.domain.message import FinishReason, Text
from chatd_server.domain.refusal import WrongStatus
from chatd_server.ports.store import Acquired
from tests.kit.make import user
from tests.kit.script import text
from tests.kit.world import Chat, World


async def held_chat(world: World) -> tuple[Chat, Held]:
    """Hold a chat as a worker that has not begun its turn."""
    process = world.start("one")
    await process.drain()
    chat = await world.chat("go")
    return chat, await hold(world, chat)


async def hold(world: World, chat: Chat) -> Held:
    """Take the lease, whether or not the chat is due."""
    applied = await chat.apply(
        Acquire(
            command_id=chat.command(),
            worker_id=WorkerId("one"),
            epoch=chat.state.epoch,
            lease_seconds=30,
        )
    )
    acquired = Acquired(applied.state, tuple(await chat.messages()))
    return await Held.open(acquired, Stop(), world.process.env)


@pytest.mark.parametrize("cause", [StopCause.LEASE_LOST, StopCause.REPLACED])
async def test_a_stop_that_forbids_writing_is_looked_at_before_a_commit(
    tmp_path: Path, cause: StopCause
) -> None:
    """Even if the lease in the database is still valid."""
    async with World(tmp_path / "chats.db") as world:
        chat, held = await held_chat(world)
        revision = chat.state.revision
        held.stop.request(cause)
        held.plan_attempt(AttemptKind.MODEL)
        with pytest.raises(Stopped):
            await held.commit()
        assert chat.state.revision == revision


async def test_a_refusal_that_is_not_an_interrupt_is_a_defect(tmp_path: Path) -> None:
    """It is raised, not taken for a stop."""
    async with World(tmp_path / "chats.db") as world:
        _, held = await held_chat(world)
        with pytest.raises(WrongStatus):
            await held.apply(RequireAction(**held.signed_once("action")))
        assert held.stop.cause is None


async def test_a_turn_that_is_held_before_its_next_attempt_waits_for_it(tmp_path: Path) -> None:
    """The time of the next attempt is in the database, for any holder of the chat."""
    async with World(tmp_path / "chats.db") as world:
        chat, held = await held_chat(world)
        attempt_id = AttemptId("attempt")
        await held.apply(
            StartAttempt(
                **held.signed(attempt_id, "start"), attempt_id=attempt_id, kind=AttemptKind.MODEL
            )
        )
        await held.apply(
            ScheduleRetry(
                **held.signed(attempt_id, "retry"),
                attempt_id=attempt_id,
                delay_seconds=40,
                error=ChatError(ErrorKind.OVERLOADED, "busy"),
            )
        )
        world.model.says(text("whole"))
        turn = asyncio.create_task(run_turn(held, world.process.env))
        assert await world.clock.advance_to("retry") == 40
        await turn
        assert chat.state.status is Status.WAITING
        assert await chat.history_texts() == ["go", "whole"]


async def test_a_plan_is_visible_at_once_and_replaced_by_the_commit(
    tmp_path: Path,
) -> None:
    """The prediction decides the next action, and is then dropped."""
    async with World(tmp_path / "chats.db") as world:
        chat, held = await held_chat(world)
        plan_answer(held)
        assert [message.role for message in held.history] == ["user", "assistant"]
        assert [message.role for message in held.prompt.messages] == ["user"]
        assert held.turn.steps == 1
        await world.clock.advance(1)  # the store decides a moment later than the prediction
        await held.commit()
        assert not held.has_plans
        assert held.state == chat.state
        assert held.history == list(await chat.messages())
        assert held.prompt.messages == held.history


async def test_a_refused_commit_drops_its_plan(tmp_path: Path) -> None:
    """The whole plan is dropped: the run continues from the last commit, which here stops it."""
    async with World(tmp_path / "chats.db") as world:
        chat, held = await held_chat(world)
        before, state = list(held.history), held.state
        await chat.interrupt()
        plan_answer(held)
        with pytest.raises(Stopped):
            await held.commit()
        assert held.stop.cause is StopCause.INTERRUPTED
        assert not held.has_plans
        assert (held.history, held.state) == (before, state)


async def test_a_long_history_is_put_into_the_prompt_in_pieces(tmp_path: Path) -> None:
    """Other tasks run in between, and no message is missing or duplicated."""
    async with World(tmp_path / "chats.db") as world:
        _, held = await held_chat(world)
        state = held.state
        history = tuple(user(str(position), position=position) for position in range(4_001))
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await world.clock.sleep(0, "others")

        counting = asyncio.create_task(others())
        held = await Held.open(Acquired(state, history), Stop(), world.process.env)
        counting.cancel()
        assert held.prompt.messages == list(history)
        assert turns >= 2


def plan_answer(held: Held) -> None:
    """Plan an attempt and its whole answer."""
    attempt_id = held.plan_attempt(AttemptKind.MODEL)
    held.plan(
        CommitAnswer(
            **held.signed(attempt_id, "answer"),
            attempt_id=attempt_id,
            parts=(Text("whole"),),
            finish_reason=FinishReason.END_TURN,
            model="test/model",
        )
    )
