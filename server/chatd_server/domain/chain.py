"""A chain: commands of one worker that are decided one after the other and written in one commit.

A worker waits for a model, a tool, a client or a time; all that it does between two waits is one
chain.
"""

import msgspec

from chatd_server.domain.chat import ChatState
from chatd_server.domain.command import Command, CommitResults
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import Instant
from chatd_server.domain.machine import advance
from chatd_server.domain.message import Message, Value
from chatd_server.domain.refusal import LeaseLost, Refused, WrongStatus
from chatd_server.domain.transition import CallStart, Transition


class Chain(Value, frozen=True):
    """Worker commands of one chat, in order, and the calls that begin with their commit."""

    #: Workers' commands, at least one.
    commands: tuple[Command, ...]
    #: Each of a call that is open after the last command.
    started: tuple[CallStart, ...] = ()

    @property
    def command_id(self) -> str:
        """How the outcome is looked up: the chain is recorded as its first command."""
        return self.commands[0].command_id


def commands_of(order: Command | Chain) -> tuple[Command, ...]:
    """Return the commands of an order: a command, or a chain."""
    return order.commands if isinstance(order, Chain) else (order,)


def decide(state: ChatState | None, order: Command | Chain, now: Instant) -> Transition:
    """Return what an order does to the chat; pure. Raises what `advance` raises."""
    if isinstance(order, Chain):
        return advance_chain(state, order, now)
    return advance(state, order, now)


def advance_chain(state: ChatState | None, chain: Chain, now: Instant) -> Transition:
    """Return what the commands do together: each is decided on the state the one before left.

    When one is refused, all are; `command` of the refusal says which.
    """
    events: list[LoggedEvent] = []
    messages: list[Message] = []
    for command in chain.commands:
        try:
            done = advance(state, command, now)
        except (Refused, LeaseLost) as refusal:
            refusal.command = command
            raise
        assert done.changed, "a worker's command changes something"
        assert done.removed_from is None, "no worker removes messages"
        events += done.events
        messages += done.messages
        state = done.state
    assert state is not None, "a chain has a command"
    if chain.started:
        state = _with_started(state, chain)
    return Transition(state, tuple(events), tuple(messages), started=chain.started)


def closes_unseen(order: Command | Chain, known: ChatState, new: ChatState) -> bool:
    """Say whether the order closes a call without bringing its result.

    Then the journal may have the outcome, and the copy of the lease holder may be older: such a
    commit compares the journal too, others only revision and epoch.
    """
    if not known.calls or new.calls is known.calls:
        return False
    brought = {
        result.call_id
        for command in commands_of(order)
        if isinstance(command, CommitResults)
        for result in command.results
    }
    still_open = {call.id for call in new.calls}
    return any(call.id not in still_open and call.id not in brought for call in known.calls)


def _with_started(state: ChatState, chain: Chain) -> ChatState:
    """Return the state with the times that the commit writes into the journal."""
    times = {call.call_id: call.started_at for call in chain.started}
    calls = tuple(
        msgspec.structs.replace(call, started_at=times.pop(call.id)) if call.id in times else call
        for call in state.calls
    )
    if times:
        refusal = WrongStatus(state.status, f"no open call has the id {min(times)[:64]!r}")
        refusal.command = chain.commands[-1]
        raise refusal
    return msgspec.structs.replace(state, calls=calls)
