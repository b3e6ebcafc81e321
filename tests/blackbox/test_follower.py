"""Tests of the follower itself, with a server made for it: what it detects, and how it resumes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2, chat_service_pb2_grpc, event_pb2
from tests.blackbox.calls import CHANNEL, Caller
from tests.blackbox.follower import SETTLED, Follower, Story
from tests.blackbox.oracle import Finished, judge_follower
from tests.blackbox.rules import ViolationError
from tests.blackbox.servers import Server
from tests.blackbox.test_rules import (
    BEGIN,
    WAITING,
    Response,
    answer,
    durable,
    piece,
    status,
    stream_end,
)
from tests.blackbox.waits import pause

HEARTBEAT_PAUSE = 0.01


class FakeChats(chat_service_pb2_grpc.ChatServiceServicer):
    """Plays one script per stream, and then sends heartbeats or ends the stream."""

    def __init__(self, scripts: Sequence[Sequence[Response]], server: Server) -> None:
        self.scripts = iter(scripts)
        self.server = server
        self.requests: list[chat_service_pb2.SubscribeRequest] = []
        self.log: list[event_pb2.ChatEvent] = []
        self.ends_with = "heartbeats"

    async def Subscribe(self, request: Any, context: Any) -> AsyncIterator[Response]:
        """Play the next script."""
        self.requests.append(request)
        script = next(self.scripts)
        for response in script:
            yield response
        if (script and script[-1].event.HasField("stream_end")) or self.ends_with == "nothing":
            return
        if self.ends_with != "heartbeats":
            self.server.life += self.ends_with == "kill"
            code = "UNAVAILABLE" if self.ends_with == "kill" else self.ends_with
            await context.abort(grpc.StatusCode[code])
        while True:
            await pause(HEARTBEAT_PAUSE)
            last = script[-1].cursor
            alive = event_pb2.Heartbeat(head_sequence=last.sequence)
            yield Response(event=event_pb2.ChatEvent(heartbeat=alive), cursor=last)

    async def ListEvents(self, request: Any, _: Any) -> chat_service_pb2.ListEventsResponse:
        """Answer from a log that may differ from the streams."""
        behind = [event for event in self.log if event.sequence > request.after_sequence]
        return chat_service_pb2.ListEventsResponse(events=behind[:1], head_sequence=len(self.log))


Meet = Callable[..., Awaitable[tuple[FakeChats, Follower]]]


@pytest.fixture
async def meet(tmp_path: Path) -> AsyncIterator[Meet]:
    """Serve scripts, and yield a follower without patience."""
    fake_server = grpc.aio.server()
    port = fake_server.add_insecure_port("127.0.0.1:0")
    (tmp_path / "root.key").write_text("key")
    server = Server(tmp_path, port=port, life=1)
    channel = grpc.aio.insecure_channel(server.address, options=CHANNEL)

    async def serve(*scripts: Sequence[Response]) -> tuple[FakeChats, Follower]:
        fake = FakeChats(scripts, server)  # type: ignore[abstract]
        chat_service_pb2_grpc.add_ChatServiceServicer_to_server(fake, fake_server)
        await fake_server.start()
        caller = Caller(server, channel)
        follower = Follower("it", Story("chat", head=3), lambda: caller, until=SETTLED)
        follower.owed_seconds = 5 * HEARTBEAT_PAUSE
        return fake, follower

    yield serve
    await channel.close()
    await fake_server.stop(None)


async def test_follower_resumes_with_its_last_cursor_when_it_is_cut(meet: Meet) -> None:
    """The second stream begins where the first was cut, within a word."""
    inside = piece("Hel", 0)
    rest = [piece("lo", 3), answer("Hello"), status(5, WAITING), stream_end(5)]
    fake, follower = await meet([*BEGIN, inside], [_caught_up_at(inside.cursor), *rest])
    fake.ends_with = "kill"
    await follower.follow()
    assert not fake.requests[0].HasField("resume_from")
    assert fake.requests[1].resume_from == inside.cursor
    assert follower.known.view.messages[9].parts[0].text.text == "Hello"


async def test_follower_finds_a_stream_that_never_catches_up(meet: Meet) -> None:
    """Heartbeats alone are not enough."""
    _, follower = await meet(BEGIN[:2])
    with pytest.raises(ViolationError, match="caught_up is owed"):
        await follower.follow()


async def test_follower_finds_events_that_its_stream_does_not_bring(meet: Meet) -> None:
    """ListEvents reads the log on another path, so it knows what the stream owes."""
    fake, follower = await meet(BEGIN)
    fake.log = [durable(n + 1).event for n in range(4)]
    with pytest.raises(ViolationError, match="event 4, by ListEvents, is owed"):
        await follower.follow()


async def test_follower_finds_a_stream_that_does_not_end(meet: Meet) -> None:
    """SETTLED must end when the status is WAITING."""
    _, follower = await meet([*BEGIN, status(4, WAITING)])
    with pytest.raises(ViolationError, match="stream_end is owed"):
        await follower.follow()


@pytest.mark.parametrize(
    ("end", "words"),
    [("nothing", "without stream_end"), ("INTERNAL", "INTERNAL"), ("UNAVAILABLE", "UNAVAILABLE")],
)
async def test_follower_finds_an_unexpected_end(meet: Meet, end: str, words: str) -> None:
    """OK without stream_end, or a failure although no server was killed."""
    fake, follower = await meet(BEGIN)
    fake.ends_with = end
    with pytest.raises(ViolationError, match=words):
        await follower.follow()


def _caught_up_at(cursor: chat_pb2.Cursor) -> Response:
    return Response(event=event_pb2.ChatEvent(caught_up=event_pb2.CaughtUp()), cursor=cursor)


LOG = [
    status(1, WAITING).event,
    status(2, chat_pb2.CHAT_STATUS_RUNNING).event,
    answer("x", 3).event,
    status(4, WAITING).event,
]


@pytest.fixture
def follower() -> Follower:
    """Return a follower that saw all of a short log."""
    it = Follower("it", Story("chat"), lambda: pytest.fail("it does not call anybody"))
    for event in LOG:
        it.received[event.sequence] = event
        it.known.view.fold(event)
    it.known.cursor = chat_pb2.Cursor(sequence=4)
    it.pieces_at = {"a": (2, 2)}
    return it


def test_oracle_accepts_a_follower_that_saw_the_log(follower: Follower) -> None:
    """The whole log, and pieces while their attempt was open."""
    judge_follower(Finished(LOG, chat_pb2.Chat(), [], None), follower)


@pytest.mark.parametrize(
    ("pieces", "words"), [((1, 2), "before event 2"), ((2, 3), "it closed at 3")]
)
def test_oracle_finds_pieces_at_the_wrong_place(
    follower: Follower, pieces: tuple[int, int], words: str
) -> None:
    """Not before the event that precedes the attempt, not after the one that closed it."""
    follower.pieces_at = {"a": pieces}
    with pytest.raises(ViolationError, match=words):
        judge_follower(Finished(LOG, chat_pb2.Chat(), [], None), follower)


def test_oracle_finds_an_event_that_others_saw_differently(follower: Follower) -> None:
    """All subscribers see the same events."""
    follower.received[3] = answer("y", 3).event
    with pytest.raises(ViolationError, match="1: event 3"):
        judge_follower(Finished(LOG, chat_pb2.Chat(), [], None), follower)


def test_oracle_finds_a_follower_that_missed_the_end(follower: Follower) -> None:
    """A follower that has finished has seen the last event."""
    follower.known.cursor = chat_pb2.Cursor(sequence=3)
    with pytest.raises(ViolationError, match="where a subscriber ends"):
        judge_follower(Finished(LOG, chat_pb2.Chat(), [], None), follower)


def test_oracle_finds_a_snapshot_that_the_log_does_not_have(follower: Follower) -> None:
    """A snapshot is the log, folded."""
    facts = {**follower.known.view.facts(), "status": "CHAT_STATUS_ERROR"}
    follower.snapshots = [(4, facts)]
    with pytest.raises(ViolationError, match="status of the snapshot at 4"):
        judge_follower(Finished(LOG, chat_pb2.Chat(), [], None), follower)
