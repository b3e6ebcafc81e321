"""What one transition writes: the output of `advance`, and nothing that a store must decide."""

from chatd_server.domain.chat import ChatState, Queued
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import Instant, ToolCallId
from chatd_server.domain.message import Message, Value


class Reply(Value, frozen=True, omit_defaults=True):
    """What the sender of a command is told beside the chat. Stored for a repeated request id."""

    #: The user's message that entered the history.
    message: Message | None = None
    #: The message that entered the queue.
    queued: Queued | None = None
    #: Whether a turn was cut, or is being cut.
    interrupted: bool = False
    #: Client calls that still wait.
    missing: tuple[ToolCallId, ...] = ()


class CallStart(Value, frozen=True):
    """A call that is about to run: a row of the journal."""

    call_id: ToolCallId
    started_at: Instant


class Transition(Value, frozen=True):
    """One step of a chat, or a chain of them: the new state, and the rows that go with it.

    `state` has revision + 1 for each step and the new head sequence. `events` are numbered; each
    MessageCommitted has its message. `changed` False means success with nothing to write.
    """

    state: ChatState
    events: tuple[LoggedEvent, ...] = ()
    #: New rows of the history, in order.
    messages: tuple[Message, ...] = ()
    #: Soft-delete the messages from this position on (before `messages` are inserted).
    removed_from: int | None = None
    reply: Reply = Reply()
    changed: bool = True
    #: Calls that begin with this commit; only a chain has some.
    started: tuple[CallStart, ...] = ()
