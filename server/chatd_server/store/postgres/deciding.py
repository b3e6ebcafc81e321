"""`chain.decide`, off the event loop where it has large results to measure and to cut."""

import asyncio

from chatd_server.domain import chain
from chatd_server.domain.chain import Chain, commands_of
from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Command, CommitResults, Create, SubmitToolResults
from chatd_server.domain.ids import Instant
from chatd_server.domain.transition import Transition
from chatd_server.store.postgres.pieces import PIECE_BYTES


async def decide(state: ChatState | None, order: Command | Chain, now: Instant) -> Transition:
    """Return the transition; raises what `chain.decide` raises. It seldom waits."""
    if is_large(state, order):
        return await asyncio.to_thread(chain.decide, state, order, now)
    return chain.decide(state, order, now)


def is_large(state: ChatState | None, order: Command | Chain) -> bool:
    """Say whether the results that come and those that are kept are more than a piece, or a
    history is copied.
    """
    size = 0
    for command in commands_of(order):
        if type(command) is CommitResults or type(command) is SubmitToolResults:
            size += sum(len(it.output) for it in command.results)
        if type(command) is Create and command.history is not None:
            return True
    if state is not None and state.calls:
        size += sum(len(it.outcome.output) for it in state.calls if it.outcome is not None)
    return size > PIECE_BYTES
