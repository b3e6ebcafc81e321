"""The resume loop, against a scripted server over a real channel."""

import grpc
import pytest

from chatd.v1 import chat_pb2, event_pb2
from chatd_client import Client, Reconnect, StreamLost, Unavailable
from tests.client.scripted import Script, delta, ended, scripted_server

REACHED = event_pb2.STREAM_END_REASON_UNTIL_REACHED
DRAINING = event_pb2.STREAM_END_REASON_DRAINING


async def test_a_cut_stream_continues_after_the_last_cursor() -> None:
    """After a cut the client asks from its last cursor, and the caller notices nothing."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.scripts = [
            Script([delta("Hel", at=0)], grpc.StatusCode.UNAVAILABLE),
            Script([delta("lo", at=3)]),
            Script([ended(REACHED)]),
        ]
        text = ""
        async for response in client.chat("c").follow():
            text += response.event.message_part.text
        assert text == "Hello"
        assert not service.subscribes[0].HasField("resume_from")
        assert service.subscribes[1].resume_from == chat_pb2.Cursor(
            sequence=1, attempt_id="a", delta_offset=3
        )
        assert service.subscribes[2].resume_from.delta_offset == 5


async def test_a_draining_server_is_a_pause_and_not_an_end() -> None:
    """stream_end(DRAINING) is resumed and not shown; another stream_end is the end."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.scripts = [Script([ended(DRAINING)]), Script([delta("x", at=0), ended(REACHED)])]
        kinds = [r.event.WhichOneof("event") async for r in client.chat("c").follow()]
        assert kinds == ["message_part", "stream_end"]


async def test_a_lost_cursor_is_an_error_and_not_a_loop() -> None:
    """Another try would also get OUT_OF_RANGE."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.scripts = [Script([], grpc.StatusCode.OUT_OF_RANGE)]
        with pytest.raises(StreamLost):
            _ = [r async for r in client.chat("c").follow()]


async def test_a_bounded_follow_gives_up() -> None:
    """failures_max bounds the failures in a row, and each is reported before its wait."""
    seen: list[Reconnect] = []
    async with (
        scripted_server() as (service, address),
        Client(address, "chatd_k", on_reconnect=seen.append) as client,
    ):
        service.scripts = [Script([], grpc.StatusCode.UNAVAILABLE) for _ in range(3)]
        with pytest.raises(Unavailable):
            _ = [r async for r in client.chat("c").follow(failures_max=2)]
        assert [r.failures for r in seen] == [1, 2]


async def test_a_reader_that_stops_leaves_no_stream_open() -> None:
    """Closing the iterator cancels the call."""
    async with scripted_server() as (service, address), Client(address, "chatd_k") as client:
        service.scripts = [Script([delta("a", at=0), delta("b", at=1)])]
        stream = client.chat("c").follow()
        assert (await anext(stream)).event.message_part.text == "a"
        await stream.aclose()
