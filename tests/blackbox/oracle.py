"""Checks everything that the followers of a chat saw against the finished log.

ListEvents, GetChat and the lists use another path than Subscribe, so they check each other.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chatd.v1 import chat_pb2, chat_service_pb2, event_pb2, message_pb2
from tests.blackbox.calls import Caller
from tests.blackbox.follower import Follower, Story
from tests.blackbox.rules import WHILE_OPEN, ViolationError
from tests.blackbox.transcript import said
from tests.blackbox.view import SETTLED, ChatView


@dataclass
class Finished:
    """A chat at rest, read by everything but streams."""

    log: list[event_pb2.ChatEvent]
    chat: chat_pb2.Chat
    messages: list[message_pb2.Message]
    queue: list[str] | None
    """Ids of queued messages; None if this server does not list them."""

    @classmethod
    async def read(cls, caller: Caller, chat_id: str) -> "Finished":
        log = await caller.events(chat_id)
        got = await caller.ask("GetChat", chat_service_pb2.GetChatRequest(chat_id=chat_id))
        queue = None
        if "ListQueuedMessages" in await caller.implemented():
            request = chat_service_pb2.ListQueuedMessagesRequest(chat_id=chat_id)
            listed = await caller.ask("ListQueuedMessages", request)
            queue = [queued.message_id for queued in listed.queued_messages]
        return cls(log, got.chat, await caller.messages(chat_id), queue)

    def view_at(self, sequence: int) -> ChatView:
        """Return the chat as it was after an event."""
        view = ChatView()
        for event in self.log[:sequence]:
            view.fold(event)
        return view


async def judge(caller: Caller, story: Story, followers: Sequence[Follower]) -> Finished:
    """Check a settled chat and its followers against the log; raise the first violation."""
    finished = await Finished.read(caller, story.chat_id)
    try:
        _judge_log(finished, story)
        _judge_chat(finished)
    except ViolationError as violation:
        for follower in followers:
            violation.add_note(str(follower.transcript))
        raise
    for follower in followers:
        try:
            judge_follower(finished, follower)
        except ViolationError as violation:
            violation.add_note(str(follower.transcript))
            raise
    return finished


def _judge_log(finished: Finished, story: Story) -> None:
    log = finished.log
    numbers = [event.sequence for event in log]
    _same("1: the numbers of the log", numbers, list(range(1, len(log) + 1)))
    if len(log) < story.head:
        raise ViolationError(f"9: a response named event {story.head}, the log ends at {len(log)}")
    positions = []
    for event in log:
        if event.HasField("message_committed"):
            message = event.message_committed.message
            _same("the sequence that a message names", message.sequence, event.sequence)
            positions.append(message.position)
    _same("the positions of messages in the log", positions, sorted(set(positions)))


def _judge_chat(finished: Finished) -> None:
    """Check GetChat and the lists against the fold of the log."""
    chat, view = finished.chat, finished.view_at(len(finished.log))
    _same("head_sequence of GetChat", chat.head_sequence, len(finished.log))
    _same("status of GetChat", chat.status, view.status)
    _same("turn_id of GetChat", chat.turn_id, view.turn_id)
    _same("stop_reason of GetChat", chat.stop_reason, view.stop_reason)
    has_error = chat.HasField("last_error")
    _same("last_error of GetChat", chat.last_error if has_error else None, view.last_error)
    _same("messages of ListMessages", finished.messages, list(view.messages.values()))
    if finished.queue is not None:
        _same("queue of ListQueuedMessages", finished.queue, [e.message_id for e in view.queue])
    _same("queued_message_count of GetChat", chat.queued_message_count, len(view.queue))
    if chat.status in SETTLED:
        _same("tool calls without exactly one result", _unpaired(view.messages.values()), [])
    told = [m.usage.output_tokens for m in finished.messages if m.usage.HasField("output_tokens")]
    counted = chat.usage_total.output_tokens
    # An interrupted model call counts, even without output and so without a message.
    if counted < sum(told) or not any(map(_is_interrupted, finished.log)):
        _same("output_tokens of usage_total", counted, sum(told))


def _unpaired(messages: Iterable[message_pb2.Message]) -> list[str]:
    """Return ids of calls without exactly one result. A vendor's own calls may have none."""
    provider = message_pb2.TOOL_EXECUTOR_PROVIDER
    parts = [part for message in messages for part in message.parts]
    calls = [part.tool_call for part in parts if part.HasField("tool_call")]
    results = [part.tool_result for part in parts if part.HasField("tool_result")]
    asked = Counter(call.tool_call_id for call in calls if call.executor != provider)
    answered = Counter(result.tool_call_id for result in results if result.executor != provider)
    return sorted((asked - answered).keys() | (answered - asked).keys())


def judge_follower(finished: Finished, follower: Follower) -> None:
    """Check the follower's events from its start on, its snapshots, and its pieces."""
    # The rules make each stream gap-free, so this and the end complete the subscriber's log.
    cursor = follower.known.cursor
    _same("2: where a subscriber ends", cursor and cursor.sequence, len(finished.log))
    for sequence, event in follower.received.items():
        _same(f"1: event {sequence} of a subscriber", event, finished.log[sequence - 1])
    for sequence, facts in follower.snapshots:
        for name, fact in finished.view_at(sequence).facts().items():
            _same(f"{name} of the snapshot at {sequence}", facts[name], fact)
    _same(
        "what a subscriber folded",
        follower.known.view.facts(),
        finished.view_at(len(finished.log)).facts(),
    )
    closers = _closers(finished.log)
    for attempt, (first, last) in follower.pieces_at.items():
        closed = closers.get(attempt)
        if closed is not None and last >= closed:
            raise ViolationError(f"5: a piece of {attempt} after {last}, it closed at {closed}")
        until = closed - 1 if closed is not None else last
        between = finished.log[first:until]
        opening = [event for event in between if not _while_open(event)]
        if opening:
            raise ViolationError(
                f"5: a piece of {attempt} came after event {first}, before event "
                f"{opening[0].sequence}, which precedes the attempt"
            )


def _closers(log: Sequence[event_pb2.ChatEvent]) -> dict[str, int]:
    """Return the sequence of the event that closed each attempt."""
    closed = {}
    for event in log:
        if event.HasField("message_committed") and event.message_committed.attempt_id:
            closed[event.message_committed.attempt_id] = event.sequence
        elif event.HasField("retry_scheduled"):
            closed[event.retry_scheduled.attempt_id] = event.sequence
    return closed


def _is_interrupted(event: event_pb2.ChatEvent) -> bool:
    return event.status_changed.stop_reason == chat_pb2.STOP_REASON_INTERRUPTED


def _while_open(event: event_pb2.ChatEvent) -> bool:
    """Return whether an event may be committed while an attempt is open."""
    interrupting = event.status_changed.status == chat_pb2.CHAT_STATUS_INTERRUPTING
    # Results of one batch are several messages; only the last one closes it.
    earlier_result = event.HasField("message_committed") and (
        event.message_committed.message.role == message_pb2.ROLE_TOOL
        and not event.message_committed.attempt_id
    )
    return event.WhichOneof("event") in WHILE_OPEN or interrupting or earlier_result


def _same(what: str, one: object, other: object) -> None:
    if one == other:
        return
    if isinstance(one, list) and isinstance(other, list):
        where = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
        if where is None:
            raise ViolationError(f"{what}: {len(one)} of them, and by the log {len(other)}")
        one, other, what = one[where], other[where], f"{what}, place {where}"
    raise ViolationError(f"{what}: {_written(one)}; by the log {_written(other)}")


def _written(fact: object) -> str:
    return said(fact) if isinstance(fact, event_pb2.ChatEvent) else repr(fact)
