"""A subscriber, and the loop that every client of Subscribe needs.

The loop in words, for a client in any language:

1. Subscribe without a cursor; the first responses are a snapshot.
2. Fold each response into the view, then store its cursor. Do both or neither.
3. `stream_end`: done, if its reason is that `until` was reached; else go to 5.
4. Any other end, with any status, is a cut connection.
5. Subscribe again with the last cursor, unchanged. The server does the rest.

`Follower.follow` is this loop, with the checks that make this client a test: each response is
checked, and a stream that is silent while it owes something is a violation.
"""

import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
from google.protobuf.duration_pb2 import Duration

from chatd.v1 import chat_service_pb2, event_pb2
from tests.blackbox.calls import Caller, reason_of
from tests.blackbox.rules import PIECES, Known, StreamRules, ViolationError
from tests.blackbox.transcript import Transcript, at, said
from tests.blackbox.waits import (
    HEARTBEAT_SECONDS,
    OWED_SECONDS,
    RECONNECT_SECONDS,
    now,
    pause,
    within,
)

FOREVER = chat_service_pb2.SUBSCRIBE_UNTIL_FOREVER
SETTLED = chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED
ACTION_OR_SETTLED = chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED
SILENT_SECONDS = OWED_SECONDS + HEARTBEAT_SECONDS


class Then(enum.Enum):
    """The follower's action after a response."""

    READ = "read on"
    RESUME = "cut the stream and resume"
    LEAVE = "cut the stream and stop"


Pace = Callable[[chat_service_pb2.SubscribeResponse], Awaitable[Then]]


async def read_on(_: chat_service_pb2.SubscribeResponse) -> Then:
    """Read without pauses, until the stream ends."""
    return Then.READ


@dataclass
class Story:
    """What all followers of a chat share: its id, and the known head of its log."""

    chat_id: str
    head: int = 0
    pieces_promised: bool = True
    final: int | None = None
    """The head of the log once the chat is finally at rest."""


@dataclass
class Follower:
    """One subscriber of one chat, on consecutive streams."""

    name: str
    story: Story
    choose: Callable[[], Caller]
    """Chooses the server of the next stream."""
    until: chat_service_pb2.SubscribeUntil.ValueType = FOREVER
    pace: Pace = read_on
    include_deltas: bool | None = None
    known: Known = field(default_factory=Known)
    received: dict[int, event_pb2.ChatEvent] = field(default_factory=dict)
    """Durable events by sequence."""
    snapshots: list[tuple[int, dict[str, object]]] = field(default_factory=list)
    pieces_at: dict[str, tuple[int, int]] = field(default_factory=dict)
    """For each attempt: the sequences after which its first and its last piece arrived."""
    streams: int = 0
    responses: int = 0
    owed_seconds: float = OWED_SECONDS
    _owed_since: float | None = None

    def __post_init__(self) -> None:
        self.transcript = Transcript(f"{self.name} of chat {self.story.chat_id}")

    async def follow(self) -> None:
        """Follow the chat over as many streams as needed."""
        try:
            while await self._stream() is Then.RESUME:
                await pause(RECONNECT_SECONDS)
        except ViolationError as violation:
            violation.add_note(str(self.transcript))
            raise

    async def _stream(self) -> Then:
        """Open one stream and read it to its end, or until it is cut."""
        self.choose_place()
        caller = self.choose()
        rules = self._rules()
        life = caller.server.life
        self.streams += 1
        self._owed_since = now()
        call = caller.stub.Subscribe(rules.request, metadata=caller.metadata, wait_for_ready=True)
        try:
            while (response := await within(SILENT_SECONDS, call.read())) is not grpc.aio.EOF:
                self.transcript.response(response)
                rules.take(response)
                self._remember(response, rules)
                await self._hold_to_its_debts(response, rules, caller)
                then = await self.pace(response) if rules.ended is None else Then.READ
                if then is not Then.READ:
                    self.transcript.note(f"we: {then.value}")
                    return then
        except grpc.aio.AioRpcError as error:
            self.transcript.note(f"{error.code().name} {reason_of(error)} {error.details()}")
            if error.code() is not grpc.StatusCode.UNAVAILABLE or caller.server.lives(life):
                words = f"the stream failed with {error.code().name}: {error.details()}"
                raise ViolationError(words) from error
            return Then.RESUME
        except TimeoutError as error:
            self.transcript.note("we: no longer wait")
            if caller.server.lives(life):
                words = f"no response, nor a heartbeat, for {SILENT_SECONDS:.0f} s"
                raise ViolationError(words) from error
            return Then.RESUME
        finally:
            call.cancel()
        if rules.ended is None:
            raise ViolationError("6: the stream ended with status OK and without stream_end")
        reached = event_pb2.STREAM_END_REASON_UNTIL_REACHED
        done = rules.ended.event.stream_end.reason == reached
        return Then.LEAVE if done else Then.RESUME

    def choose_place(self) -> None:
        """Set where the next stream begins: at the last cursor, unless a test goes back."""

    def _rules(self) -> StreamRules:
        request = chat_service_pb2.SubscribeRequest(
            chat_id=self.story.chat_id,
            until=self.until,
            heartbeat_interval=Duration(seconds=HEARTBEAT_SECONDS),
        )
        if self.include_deltas is not None:
            request.include_deltas = self.include_deltas
        if self.known.cursor is not None:
            request.resume_from.CopyFrom(self.known.cursor)
        begin = at(request.resume_from) if self.known.cursor is not None else "the snapshot"
        self.transcript.note(f"we: subscribe from {begin}; {self.story.head} is known to be there")
        return StreamRules(request, self.known, self.story.head, self.story.pieces_promised)

    def _remember(self, response: chat_service_pb2.SubscribeResponse, rules: StreamRules) -> None:
        """Keep what only the finished log can confirm."""
        event = response.event
        kind = event.WhichOneof("event") or ""
        self.responses += 1
        if event.sequence:
            before = self.received.setdefault(event.sequence, event)
            if before != event:
                raise ViolationError(f"1: event {event.sequence} was {said(before)} before")
        if kind == "caught_up" and rules.snapshot:
            self.snapshots.append((rules.at, self.known.view.copy().facts()))
        if kind in PIECES:
            attempt = getattr(event, kind).attempt_id
            first, _ = self.pieces_at.get(attempt, (rules.at, 0))
            self.pieces_at[attempt] = (first, rules.at)

    async def _hold_to_its_debts(
        self, response: chat_service_pb2.SubscribeResponse, rules: StreamRules, caller: Caller
    ) -> None:
        """Check that the stream is not silent while it owes something; heartbeats do not count."""
        if not response.event.HasField("heartbeat"):
            self._owed_since = None
            return
        debt = await self._debt(response.event.heartbeat, rules, caller)
        if debt is None:
            self._owed_since = None
            return
        since = self._owed_since = now() if self._owed_since is None else self._owed_since
        if now() - since > self.owed_seconds:
            raise ViolationError(f"only heartbeats for {now() - since:.0f} s, and {debt} is owed")

    async def _debt(
        self, heartbeat: event_pb2.Heartbeat, rules: StreamRules, caller: Caller
    ) -> str | None:
        """Return what the stream should have sent by now, according to the log."""
        if not rules.caught_up:
            return "caught_up"
        if rules.end_is_due:
            return "stream_end"
        if heartbeat.head_sequence > rules.at:
            return f"event {rules.at + 1} of {heartbeat.head_sequence}, by the heartbeat,"
        request = chat_service_pb2.ListEventsRequest(
            chat_id=self.story.chat_id, after_sequence=rules.at, page_size=1
        )
        page = await caller.ask("ListEvents", request)
        return f"event {rules.at + 1}, by ListEvents," if page.events else None
