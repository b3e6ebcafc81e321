"""The database: chats, leases, the journal of tools and the log."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatState, Status
from chatd_server.domain.command import Command, DeleteChat, SetArchived
from chatd_server.domain.event import LoggedEvent
from chatd_server.domain.ids import ChatId, Instant, MessageId, OwnerId, WorkerId
from chatd_server.domain.message import Message, ToolResult
from chatd_server.domain.transition import Reply
from chatd_server.ports.watch import WatchStore


class RequestKey(msgspec.Struct, frozen=True):
    """A request that may be sent twice: (owner, method, request_id) and a hash of its body."""

    key: str
    body_hash: bytes


class Applied(msgspec.Struct, frozen=True, gc=False):
    """What a command did. `sequence` is the chat's head after it.

    `replayed` True: this is the stored answer of an earlier identical request; `events` and
    `messages` are empty then, and `state` is what it was (queue contents left out).
    """

    state: ChatState
    reply: Reply
    sequence: int
    events: tuple[LoggedEvent, ...] = ()
    messages: tuple[Message, ...] = ()
    replayed: bool = False


class Acquired(msgspec.Struct, frozen=True):
    """A chat that the worker holds now, with all that a turn needs from the database alone.

    `messages` are those that the model's context begins with (from `boundary_position`),
    soft-deleted ones left out, in order. `state.calls` carry their journal.
    """

    state: ChatState
    messages: tuple[Message, ...]


class Acquisition(msgspec.Struct, frozen=True):
    """What a worker got when it asked for chats."""

    chats: Sequence[Acquired] = ()
    #: Other work was passed over, because somebody held its rows at that moment: for how many
    #: seconds the newest of it has been due. None: nothing was passed over.
    passed_over_seconds: float | None = None


class Beat(msgspec.Struct, frozen=True):
    """What a heartbeat found: enough to notice a lost interrupt hint."""

    chat_id: ChatId
    epoch: int
    revision: int
    status: Status


class EventPage(msgspec.Struct, frozen=True):
    """Some durable events, in order, and the ends of the log when it was read."""

    events: tuple[LoggedEvent, ...]
    oldest_sequence: int
    head_sequence: int


class ChatPage(msgspec.Struct, frozen=True):
    """Some chats; `next_key` is None at the end."""

    chats: tuple[ChatState, ...]
    next_key: str | None


class ChatStore(Protocol):
    """The chats: their state and messages, and the one way in which they change."""

    async def apply(
        self,
        chat_id: ChatId,
        command: Command | Chain,
        *,
        known: ChatState | None = None,
        request: RequestKey | None = None,
        owner_id: OwnerId | None = None,
    ) -> Applied:
        """Decide by `chain.decide` and write it, whole or not at all.

        A chain is one commit, with the journal rows of the calls that it starts, recorded as its
        first command; a refusal says which of its commands was refused. `known` is the state that
        the lease holder has in memory; it saves the load. `owner_id` (api) makes another owner's
        chat ChatNotFound. Runs to its end in a task of the store's own, also when the caller is
        cancelled. Raises Refused, LeaseLost (stale epoch), DatabaseUnavailable. A command_id that
        was recorded already is success.
        """

    async def apply_family(
        self,
        chat_id: ChatId,
        command: SetArchived | DeleteChat,
        *,
        request: RequestKey | None = None,
        owner_id: OwnerId | None = None,
    ) -> Applied:
        """Decide by `family.advance_family` and write it, whole or not at all: a root takes its
        children along, also one that is made at the same moment. Else as `apply`, which changes
        the chat alone.

        `reply.chats` is how many were changed. A child that refuses is named by the refusal.
        """

    async def answered(self, request: RequestKey) -> Applied | None:
        """Return the stored answer of a request that was carried out; None when there is none.
        Raises RequestIdReused.
        """

    async def load(self, chat_id: ChatId, owner_id: OwnerId | None = None) -> ChatState:
        """Return the state, queue contents and journal included; raises ChatNotFound.

        Without `owner_id` a deleted chat is found too (`state.deleted`).
        """

    async def list_chats(
        self,
        owner_id: OwnerId,
        *,
        limit: int,
        after_key: str | None = None,
        include_archived: bool = False,
        labels: Mapping[str, str] | None = None,
        statuses: Sequence[Status] = (),
        parent_id: ChatId | None = None,
    ) -> ChatPage:
        """Return root chats, or the children of one, newest first. Queue contents are left out,
        lengths kept. A page of large chats may have fewer than `limit`.
        """

    async def list_actions(
        self,
        owner_id: OwnerId,
        *,
        limit: int,
        after_key: str | None = None,
        chat_id: ChatId | None = None,
    ) -> ChatPage:
        """Return the chats in `requires_action`, first deadline first, with the calls that still
        wait. Left out are the config, the queue's contents, and calls whose results are kept.
        A page of large chats may have fewer than `limit`.
        """

    async def messages(
        self, chat_id: ChatId, *, after_position: int, limit: int, bytes_max: int
    ) -> tuple[Sequence[Message], bool]:
        """Return visible messages in order, and whether more follow."""

    async def message_position(self, chat_id: ChatId, message_id: MessageId) -> Message:
        """Return a message that is not removed; raises MessageNotFound."""


class LeaseStore(Protocol):
    """Who works on which chat, and what nobody works on."""

    async def acquire(self, worker_id: WorkerId, slots: int, lease_seconds: float) -> Acquisition:
        """Take up to `slots` chats that have work and no live lease, oldest work first; by the same
        commit begin the model call of each that owes one. Work that somebody else writes at that
        moment is passed over.
        """

    async def heartbeat(
        self, worker_id: WorkerId, held: Sequence[tuple[ChatId, int]], lease_seconds: float
    ) -> Sequence[Beat]:
        """Extend the leases of (chat, epoch) pairs, in one statement; a lost one is absent."""

    async def rescue(self, worker_id: WorkerId, limit: int) -> int:
        """Give back chats whose lease has expired; return how many."""

    async def expire_actions(self, worker_id: WorkerId, limit: int) -> int:
        """Answer actions past their deadline; return how many."""

    async def next_due(self) -> Instant | None:
        """Return when the earliest retry of a chat without a worker, later than now, the earliest
        action deadline or the earliest end of a lease is due, if any. A retry that is due already,
        `acquire` finds.
        """


class JournalStore(Protocol):
    """The outcomes of tools that ran before their batch was over."""

    async def finish_call(self, chat_id: ChatId, epoch: int, result: ToolResult) -> None:
        """Record an outcome in the journal; raises LeaseLost."""


class LogStore(Protocol):
    """The durable events of a chat, and the chat as an event left it."""

    async def events(self, chat_id: ChatId, *, after: int, limit: int, bytes_max: int) -> EventPage:
        """Return durable events behind a sequence. Raises CursorExpired, CursorAhead."""

    async def messages_as_of(
        self, state: ChatState, *, after_position: int
    ) -> tuple[Sequence[Message], bool]:
        """Return the messages that were visible at the revision of a state, in order, and whether
        more follow: below half of RESPONSE_BYTES_MAX, or one. Raises ChatNotFound.

        Whatever is committed between two pages, they fit together; no transaction is held open.
        """


class Upkeep(Protocol):
    """What belongs to the database as a whole."""

    async def prune_events(self, before: Instant) -> int:
        """Drop events older than that and move `oldest_sequence`; return how many."""

    async def prune_commands(self, before: Instant) -> int:
        """Drop command records older than that; return how many."""

    async def secret(self, name: str) -> bytes:
        """Return a secret of the database, 32 random bytes: made when it is first asked for,
        and the same for every server of the database.
        """

    async def is_reachable(self) -> bool:
        """Say whether the database answers; never raises."""


class Store(ChatStore, LeaseStore, JournalStore, LogStore, WatchStore, Upkeep, Protocol):
    """The database. Every method raises DatabaseUnavailable when it cannot be reached."""


class CommitListener(Protocol):
    """Who learns of commits of this process, after the commit, in order per chat."""

    def committed(self, applied: Applied) -> None:
        """Take a commit. Called on the event loop's thread; must not raise or block."""
