"""A chat of 2,000 messages behind a boundary: no step reads or encodes what lies before it."""

import sqlite3
from typing import Any

import asyncpg

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import AttemptKind, Status, StopReason, TurnOptions
from chatd_server.domain.command import (
    Acquire,
    Command,
    CommitAnswer,
    FinishTurn,
    StartAttempt,
)
from chatd_server.domain.ids import AttemptId, WorkerId
from chatd_server.domain.message import FinishReason, Text
from chatd_server.providers.anthropic.encode import MessageEncoder
from tests.kit.script import Gate, calls, text
from tests.kit.world import Chat, World

MESSAGES = 2_000
IN_A_CHAIN = 250


async def spoil(world: World, position: int) -> None:
    """Make all messages before a position unreadable: whoever reads one fails."""
    if not world._url:
        with sqlite3.connect(world._path) as connection:
            connection.execute(
                "UPDATE messages SET content = x'00' WHERE position < ?", (position,)
            )
        connection.close()
        return
    connected = await asyncpg.connect(world._url)
    try:
        await connected.execute(
            "UPDATE messages SET content = '\\x00'::bytea WHERE position < $1", position
        )
    finally:
        await connected.close()


async def long_chat(world: World) -> Chat:
    """Return a chat of 2,000 messages, at rest."""
    chat = await world.chat("go", options=TurnOptions(max_steps=10_000))
    hold: dict[str, Any] = {"worker_id": WorkerId("by hand"), "epoch": 0}
    await chat.apply(Acquire(command_id=chat.command(), **hold, lease_seconds=3600))
    hold["epoch"] = 1
    for first in range(1, MESSAGES, IN_A_CHAIN):
        commands: list[Command] = []
        for number in range(first, min(first + IN_A_CHAIN, MESSAGES)):
            attempt_id = AttemptId(f"attempt-{number}")
            commands.append(
                StartAttempt(
                    command_id=chat.command(),
                    **hold,
                    attempt_id=attempt_id,
                    kind=AttemptKind.MODEL,
                )
            )
            commands.append(
                CommitAnswer(
                    command_id=chat.command(),
                    **hold,
                    attempt_id=attempt_id,
                    parts=(Text(f"answer {number}"),),
                    finish_reason=FinishReason.PAUSED,
                    model="test/model",
                )
            )
        await world.store.apply(chat.id, Chain(tuple(commands)))
    turn = chat.state.turn
    assert turn is not None
    await chat.apply(
        FinishTurn(
            command_id=chat.command(),
            **hold,
            turn_id=turn.id,
            stop_reason=StopReason.END_TURN,
        )
    )
    assert chat.state.next_position == MESSAGES + 1
    return chat


async def test_no_step_behind_a_boundary_reads_or_encodes_what_lies_before_it(
    either: World,
) -> None:
    """What lies before it is made unreadable, and nobody notices: not a step, not a new worker,
    not the next compaction. A request has only what follows the boundary.
    """
    world = either
    world.tool("look")
    chat = await long_chat(world)
    world.model.says(text("in short"))
    world.start()
    await chat.compact()
    await chat.ended()
    assert len(world.model.requests[-1].messages) == MESSAGES + 1
    boundary = chat.state.boundary_position
    assert boundary == MESSAGES + 1
    await spoil(world, boundary)
    gate = Gate()
    world.model.says(calls("look"))
    world.model.says(text("half", gate))
    await chat.send("and on")
    await gate.reached()
    await world.process.crash()
    world.model.says(text("whole"))
    world.start("two")
    await world.clock.advance(31)
    await chat.until(Status.WAITING)
    world.model.says(text("shorter"))
    await chat.compact()
    await chat.ended()
    sizes = [len(it.messages) for it in world.model.requests[1:]]
    assert sizes == [2, 4, 4, 6]
    encoder = MessageEncoder("claude-sonnet-4-5")
    encoder.encoded([it for it in world.model.requests[-1].messages if hasattr(it, "parts")])
    assert encoder._seen == sizes[-1]
