"""What one transition writes: the output of `advance`. A store decides nothing of it."""

from chatd_server.domain.chat import ChatState, Queued
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import Instant, ToolCallId
from chatd_server.domain.message import Message, Value


class Reply(Value, frozen=True, omit_defaults=True):
    """What the sender of a command gets besides the chat. Stored for a repeated request id."""

    #: The user's message that entered the history.
    message: Message | None = None
    #: The message that entered the queue.
    queued: Queued | None = None
    #: Whether a turn was cut, or is being cut.
    interrupted: bool = False
    #: Client calls that still wait.
    missing: tuple[ToolCallId, ...] = ()
    #: How many chats of the family were archived, unarchived or deleted.
    chats: int = 0
    #: Head of the log before a message was sent.
    after: int = 0


class CallStart(Value, frozen=True):
    """A call that is about to run, as the journal keeps it."""

    call_id: ToolCallId
    started_at: Instant


class Transition(Value, frozen=True):
    """What a command, or a chain, does to a chat: the new state, and what is written with it.

    `state` has revision + 1 for each command. Each MessageCommitted of `events` has its message.
    `changed` False means success with nothing to write.
    """

    state: ChatState
    events: tuple[LoggedEvent, ...] = ()
    #: New messages of the history, in order.
    messages: tuple[Message, ...] = ()
    #: Soft-delete the messages from this position on (before `messages` are inserted).
    removed_from: int | None = None
    reply: Reply = Reply()
    changed: bool = True
    #: Calls that begin with this commit; only a chain has them.
    started: tuple[CallStart, ...] = ()
