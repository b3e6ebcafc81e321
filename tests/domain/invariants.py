"""What holds for every chat after every command."""

from itertools import groupby

from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import Command
from chatd_server.domain.context import measure
from chatd_server.domain.event import StatusChanged
from chatd_server.domain.message import Executor, Message, Role, ToolCall
from chatd_server.domain.transition import Transition
from tests.kit.by_hand import said

HELD = (Status.RUNNING, Status.INTERRUPTING)
SETTLED = (Status.WAITING, Status.ERROR)


def holds_after(before: ChatState, command: Command, done: Transition) -> None:
    statuses = [it for it in said(done.events, StatusChanged) if isinstance(it, StatusChanged)]
    moved = before.status is not done.state.status
    if moved:
        assert statuses
        assert statuses[-1].status is done.state.status
    ended = [it for it in statuses if it.stop_reason]
    assert len(statuses) - len(ended) <= 1, command
    assert len(ended) <= 1, command
    queued = {it.id: it for it in before.queue}
    for message in done.messages:
        if message.id in queued:
            assert message.parts == queued[message.id].parts


def fields_agree(state: ChatState) -> None:
    status = state.status
    assert (state.lease is not None) <= (status in HELD)
    assert status is not Status.RUNNING or state.lease is not None
    assert not (status is Status.WAITING and (state.queue or state.turn))
    assert len({it.id for it in state.queue}) == len(state.queue)
    assert (state.turn is None) == (status is Status.WAITING)
    assert (state.stop_reason is None) <= (status not in SETTLED or not state.turn)
    assert (status in SETTLED) or state.stop_reason is None
    assert (state.last_error is not None) == (status is Status.ERROR)
    assert (state.action is not None) == (status is Status.REQUIRES_ACTION)
    assert state.archived <= (status in SETTLED)
    assert not (state.calls and status in SETTLED)
    if state.turn is not None and state.turn.attempt is not None:
        assert status in HELD
    if state.action is not None:
        assert {it.executor for it in state.calls} == {Executor.CLIENT}
    assert state.lease is None or state.lease.epoch == state.epoch


def context_agrees(state: ChatState, messages: list[Message]) -> None:
    """The state's count of the context is that of its messages, or it says that it has none."""
    use = state.context
    if use is None:
        return
    found = measure([it for it in messages if it.position >= state.boundary_position])
    assert (use.counted_tokens, use.used_tokens) == (found.counted_tokens, found.used_tokens)
    assert use.is_answered == found.is_answered


def is_users(message: Message) -> bool:
    return message.role is Role.USER and not message.compressed


def history_is_valid(state: ChatState, messages: list[Message]) -> None:
    """Hold the history to what every vendor asks of it."""
    assert len({it.id for it in messages}) == len(messages)
    # What stands before the first user message, and after each one.
    stretches = [list(it) for _, it in groupby(messages, lambda it: it.role is Role.USER)]
    for index, stretch in enumerate(stretches):
        is_last = index == len(stretches) - 1
        _results_answer_calls(state if is_last else None, stretch)
    if messages and messages[-1].role is Role.USER:
        assert not state.calls, "an open call after a user's message"


def _results_answer_calls(state: ChatState | None, stretch: list[Message]) -> None:
    owed: list[ToolCall] = []
    for message in stretch:
        if message.role is Role.ASSISTANT:
            assert not owed, "an answer before the results of the one before"
            owed = [it for it in message.calls if it.executor is not Executor.PROVIDER]
        if message.role is Role.TOOL:
            given = [it.call_id for it in message.results]
            # In call order; a batch of ours comes before the client's.
            assert given == [it.id for it in owed if it.id in given]
            assert given
            owed = [it for it in owed if it.id not in given]
    still_open = [] if state is None else [it.id for it in state.calls]
    assert [it.id for it in owed] == still_open
