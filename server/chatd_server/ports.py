"""Every seam of chatd, as Protocols. What is behind them is decided in `app`, and only there."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

import msgspec

from chatd_server.domain.chain import Chain
from chatd_server.domain.chat import ChatState, Effort, Status
from chatd_server.domain.command import Command
from chatd_server.domain.event import CompactionSource, Cursor, LoggedEvent
from chatd_server.domain.ids import (
    AttemptId,
    ChatId,
    Instant,
    MessageId,
    OwnerId,
    ToolCallId,
    WorkerId,
)
from chatd_server.domain.live import Follow, Piece, StreamEndReason
from chatd_server.domain.message import Executor, Message, Part, ToolResult
from chatd_server.domain.stream import StreamPart
from chatd_server.domain.transition import Reply


class Clock(Protocol):
    """Time as an argument. All time goes through it."""

    def now(self) -> Instant:
        """Return microseconds since the Unix epoch, UTC."""

    async def sleep(self, seconds: float, tag: str) -> None:
        """Let time pass; `tag` names the wait."""

    def timeout(self, seconds: float, tag: str) -> AbstractAsyncContextManager[object]:
        """Return a context that raises TimeoutError once the time has passed."""


# --- store ---------------------------------------------------------------------------------


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


class Store(Protocol):
    """The database. Every method raises DatabaseUnavailable when it cannot be reached.

    `apply` is the only way in which execution state changes.
    """

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

    async def finish_call(self, chat_id: ChatId, epoch: int, result: ToolResult) -> None:
        """Record an outcome in the journal; raises LeaseLost."""

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
    ) -> ChatPage:
        """Return chats, newest first. Queue contents are left out, lengths kept. A page of large
        chats may have fewer than `limit`.
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

    async def events(self, chat_id: ChatId, *, after: int, limit: int, bytes_max: int) -> EventPage:
        """Return durable events behind a sequence. Raises CursorExpired, CursorAhead."""

    async def messages_as_of(
        self, state: ChatState, *, after_position: int
    ) -> tuple[Sequence[Message], bool]:
        """Return the messages that were visible at the revision of a state, in order, and whether
        more follow: below half of RESPONSE_BYTES_MAX, or one. Raises ChatNotFound.

        Whatever is committed between two pages, they fit together; no transaction is held open.
        """

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


class KeyRecord(msgspec.Struct, frozen=True):
    """An API key, without the key itself: only a hash is stored."""

    id: str
    owner_id: OwnerId
    name: str
    created_at: Instant
    revoked_at: Instant | None = None


class KeyStore(Protocol):
    """API keys."""

    async def add_key(self, record: KeyRecord, key_hash: bytes) -> None:
        """Add a key."""

    async def find_key(self, key_hash: bytes) -> KeyRecord | None:
        """Return the key with this hash unless it was revoked."""

    async def list_keys(self) -> Sequence[KeyRecord]:
        """Return all keys, newest first."""

    async def revoke_key(self, key_id: str, at: Instant) -> bool:
        """Revoke a key; say whether there was one."""


class CommitListener(Protocol):
    """Who learns of commits of this process, after the commit, in order per chat."""

    def committed(self, applied: Applied) -> None:
        """Take a commit. Called on the event loop's thread; must not raise or block."""


class Wake(Protocol):
    """Hints between processes. They may be lost, doubled or reordered, and carry no meaning."""

    def hint(self, chat_id: ChatId, revision: int, status: Status) -> None:
        """Say, after a commit, that a chat changed. Never blocks."""

    def listen(self, callback: Callable[[ChatId, int, Status], None]) -> Callable[[], None]:
        """Call back on the loop's thread for each hint; return how to stop it."""

    def listen_gaps(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when hints may have been lost, so look now; return how to stop it."""


# --- live ----------------------------------------------------------------------------------


class AttemptWriter(Protocol):
    """The live parts of one open attempt. No method awaits: a writer never waits for a reader.

    Every method raises `ModelFailure(output_too_large)` beyond the limit of the attempt, and
    does nothing once the attempt is closed.
    """

    def text(self, part: int, text: str) -> None:
        """Append text to a text part."""

    def reasoning(self, part: int, text: str) -> None:
        """Append text to a reasoning part."""

    def refusal(self, part: int, text: str) -> None:
        """Append text to a refusal part."""

    def call(
        self, part: int, call_id: ToolCallId, name: str, executor: Executor, arguments: str
    ) -> None:
        """Append arguments to a tool call; empty arguments announce it."""

    def whole(self, part: int, value: Part) -> None:
        """Add a part that came at once."""

    def tool_started(self, call_id: ToolCallId, name: str) -> None:
        """Say that a tool of ours began."""

    def tool_finished(self, result: ToolResult) -> None:
        """Show the result of a tool of ours."""

    def compaction_started(self, source: CompactionSource) -> None:
        """Say that a compaction began."""

    def abandon(self) -> None:
        """Void everything shown: the attempt will not be committed. Idempotent."""


class Live(Protocol):
    """Where the worker shows an answer in progress."""

    def open(self, chat_id: ChatId, attempt_id: AttemptId, base_sequence: int) -> AttemptWriter:
        """Open an attempt. It is closed by the committed event that names it."""


class Stream(Protocol):
    """What one subscriber is sent, as bytes of `FrameCodec`, in order."""

    async def next(self) -> bytes | None:
        """Wait for the next response; None at the end. Raises ChatNotFound, CursorExpired and
        CursorAhead (only before the first response, or when retention overtook the reader),
        DatabaseUnavailable.
        """


class HeadWatch(Protocol):
    """Whether a chat's log may have moved since the watch began, or since the last `moved`."""

    async def moved(self, seconds: float) -> bool:
        """Wait at most so long; say whether the log is worth reading again."""


class Streams(Protocol):
    """Where subscribers follow chats. Leaving a context never changes a chat."""

    def follow(
        self, chat_id: ChatId, owner_id: OwnerId, follow: Follow
    ) -> AbstractContextManager[Stream]:
        """Attach a subscriber; raises TooManyStreams, Draining."""

    def watch(self, chat_id: ChatId) -> AbstractContextManager[HeadWatch]:
        """Watch the head of a log. Enter it before the log is read."""


class FrameCodec(Protocol):
    """How what a stream sends becomes one response. `cursor` is the position behind it."""

    def event(self, chat_id: ChatId, event: LoggedEvent, cursor: Cursor) -> bytes:
        """A durable event."""

    def piece(self, attempt_id: AttemptId, piece: Piece, cursor: Cursor) -> bytes:
        """A piece of the open attempt."""

    def snapshot(self, state: ChatState, cursor: Cursor) -> bytes:
        """The chat as it is."""

    def snapshot_messages(
        self, chat_id: ChatId, messages: Sequence[Message], cursor: Cursor
    ) -> bytes:
        """Messages of the snapshot."""

    def preview_reset(self, attempt_id: AttemptId, cursor: Cursor) -> bytes:
        """Forget the pieces of this attempt."""

    def heartbeat(self, head_sequence: int, cursor: Cursor) -> bytes:
        """The stream is alive."""

    def caught_up(self, cursor: Cursor) -> bytes:
        """From here on it is live."""

    def stream_end(self, reason: StreamEndReason, cursor: Cursor) -> bytes:
        """The stream ends on purpose."""


# --- models and tools ----------------------------------------------------------------------


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool, as the model is told of it. `input_schema` is JSON text of an object schema."""

    name: str
    description: str
    input_schema: str


class ModelRequest(msgspec.Struct, frozen=True):
    """One model call. `messages` is the whole context, in order, the same objects each time."""

    messages: Sequence[Message]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    effort: Effort | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    #: From 1; rises with each retry of the same step.
    attempt_number: int = 1


class Conversation(Protocol):
    """One run's calls to one model; what it encoded for one step it splices into the next."""

    def stream(self, request: ModelRequest) -> AsyncIterator[StreamPart]:
        """Yield the answer's parts; the last is Finished. Raises ModelFailure and nothing else.

        Closing the iterator (or cancelling it) drops the connection.
        """


class Model(Protocol):
    """One configured model of one vendor."""

    @property
    def name(self) -> str:
        """Return "provider/model"."""

    @property
    def provider(self) -> str:
        """Return the provider's name."""

    def conversation(self) -> Conversation:
        """Begin the calls of one run."""


class Models(Protocol):
    """The configured models; adapters are imported when first used."""

    def get(self, name: str) -> Model:
        """Return a model; raises ModelNotFound."""

    def names(self) -> Sequence[str]:
        """Return examples of names that `get` takes."""


class ToolContext(msgspec.Struct, frozen=True):
    """What a tool may know of the call that it runs."""

    chat_id: ChatId
    owner_id: OwnerId
    call_id: ToolCallId


class ToolOutput(msgspec.Struct, frozen=True):
    """What a tool gave."""

    output: str
    is_json: bool = False
    is_error: bool = False
    #: Of an error: the arguments did not fit, so nothing was run (ToolErrorKind.INVALID_CALL).
    is_invalid_call: bool = False


class Tool(Protocol):
    """A tool that this service executes."""

    @property
    def spec(self) -> ToolSpec:
        """What the model is told."""

    @property
    def idempotent(self) -> bool:
        """Whether a call that had started may be run again after a crash."""

    @property
    def ends_turn(self) -> bool:
        """Whether a call without an error ends the turn."""

    async def run(self, arguments: str, context: ToolContext) -> ToolOutput:
        """Run one call. `arguments` is the model's JSON text. Errors of the tool are outputs;
        anything raised becomes an error result that names the tool and not the traceback.
        """


class Tools(Protocol):
    """The tools that are active for a chat."""

    def active(self, model: str) -> Mapping[str, Tool]:
        """Return the built-in tools by name for chats of this model ("provider/model")."""

    def names(self) -> Iterable[str]:
        """Return every built-in name."""
