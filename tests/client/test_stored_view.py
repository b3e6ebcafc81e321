"""A view that is stored and loaded again is equal to one that was not."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import ChatHandle, ChatView, Client, tool
from chatd_client.view import FORMAT
from tests.kit.server import Served, serving

Response = chat_service_pb2.SubscribeResponse

# The model pauses once in each attempt, so that a stream shows the answer in progress.
WORDS = """!think 3
!stall 1
!call current_time {"timezone": "Europe/Oslo"}
!call work {"text": "longer than a piece"}
!step
!say Hello there.
!stall 1
!cut
!say The end."""
QUEUED = "!say Queued.\n!stall 1"


@tool
async def work(text: str) -> str:
    """Work."""
    return text


@dataclass
class Recording:
    """The responses of a stream, from its snapshot to the end of two turns."""

    chat: ChatHandle
    responses: list[Response]

    @property
    def kinds(self) -> set[str]:
        """The kinds of its events."""
        return {response.event.WhichOneof("event") or "" for response in self.responses}


@pytest.fixture
async def recording(served: Served, client: Client) -> Recording:
    """Record a queue, tools of both kinds, an action, a retry."""
    chat = await client.create_chat("!say Before.", title="t", labels={"a": "1"}, tools=[work])
    async for _ in chat.resume():
        pass
    responses: list[Response] = []
    attempts = {""}
    async with aclosing(chat.follow()) as stream:
        async for response in stream:
            responses.append(response)
            event = response.event
            if event.HasField("caught_up"):
                await chat.send(WORDS)
                await chat.send(QUEUED)
            if event.message_part.attempt_id not in attempts:
                attempts.add(event.message_part.attempt_id)
                await served.clock.advance_to("sandbox.stall")
            if event.HasField("retry_scheduled"):
                await served.clock.advance_to("retry")
            if event.HasField("action_required"):
                (call,) = event.action_required.action.tool_calls
                await chat.submit_tool_results([await work.result(call, chat.id)])
            if event.status_changed.status == chat_pb2.CHAT_STATUS_WAITING:
                break
    return Recording(chat, responses)


async def driven(served: Served, responses: AsyncIterator[Response]) -> AsyncIterator[Response]:
    """Yield the responses of a run; advance the clock when its model or a retry waits."""
    attempts = {""}
    async for response in responses:
        event = response.event
        yield response
        if event.message_part.attempt_id not in attempts:
            attempts.add(event.message_part.attempt_id)
            await served.clock.advance_to("sandbox.stall")
        if event.HasField("retry_scheduled"):
            await served.clock.advance_to("retry")


def folded(view: ChatView, responses: Iterable[Response]) -> ChatView:
    """Return the view after these responses."""
    for response in responses:
        view.apply(response)
    return view


def reloaded(view: ChatView) -> ChatView:
    """Store a view, and load it again."""
    return ChatView.load(view.dump())


async def test_a_view_that_was_stored_goes_on_as_if_it_had_not_been(recording: Recording) -> None:
    """After each response; the recording has everything that a view can hold."""
    assert recording.kinds >= {
        *("snapshot", "snapshot_messages", "caught_up", "message_committed", "status_changed"),
        *("message_part", "preview_reset", "retry_scheduled", "queue_changed"),
        *("tool_call_started", "tool_call_finished", "action_required", "action_resolved"),
    }
    seen: set[str] = set()
    whole = folded(ChatView(), recording.responses)
    for cut in range(len(recording.responses) + 1):
        before, after = recording.responses[:cut], recording.responses[cut:]
        view = folded(ChatView(), before)
        assert reloaded(view) == view
        assert folded(reloaded(view), after) == whole
        seen |= {name for name, value in vars(view).items() if value}
    assert seen == set(vars(whole))


async def test_a_stored_view_has_the_cursor_to_continue(recording: Recording) -> None:
    """The server sends what is missing, so the view is complete after a restart."""
    whole = folded(ChatView(), recording.responses)
    assert whole.answer == "Queued."
    until = chat_service_pb2.SUBSCRIBE_UNTIL_SETTLED
    for cut in range(len(recording.responses) + 1):
        view = reloaded(folded(ChatView(), recording.responses[:cut]))
        async for response in recording.chat.follow(cursor=view.cursor, until=until):
            view.apply(response)
        assert view.messages == whole.messages
        assert (view.queue, view.pending_action, view.live) == ([], None, {})
        assert (view.status, view.chat.title) == (whole.status, "t")


async def test_a_view_takes_nothing_twice(recording: Recording) -> None:
    """At each point, all responses since its snapshot may come again."""
    whole = folded(ChatView(), recording.responses)
    kinds = [it.event.WhichOneof("event") for it in recording.responses]
    live = kinds.index("caught_up") + 1
    for cut in range(live, len(recording.responses) + 1):
        view = folded(ChatView(), recording.responses[:cut])
        assert folded(view, recording.responses[live:]) == whole


async def test_a_stored_view_takes_the_same_run_again(served: Served, client: Client) -> None:
    """Stored at any response of a run and fed its repeat, it holds each message of the server's
    once, nothing of an answer that is over, and a cursor that never moves back.
    """
    chat = await client.create_chat("!say Before.", tools=[work])
    before = ChatView()
    async for response in chat.resume():
        before.apply(response)
    request_id = str(uuid4())
    first = [it async for it in driven(served, chat.run(WORDS, request_id=request_id))]
    again = [it async for it in chat.run(WORDS, request_id=request_id)]
    messages = await chat.messages()
    for cut in range(len(first) + 1):
        view = reloaded(folded(reloaded(before), first[:cut]))
        for response in again:
            at = view.cursor
            view.apply(response)
            assert at is None or view.cursor is None or at.sequence <= view.cursor.sequence
            assert view.messages == messages[: len(view.messages)]
        assert view.messages == messages
        assert (view.live, view.queue, view.pending_action) == ({}, [], None)
        assert view.status == chat_pb2.CHAT_STATUS_WAITING


async def test_a_repeated_run_adds_to_the_answer_in_progress(
    client: Client, served: Served
) -> None:
    """The repeat begins at the first byte of the answer; the view adds the new bytes."""
    chat = await client.create_chat()
    words, request_id = "!say Hell\u00f6\n!stall 1\n!say there.", str(uuid4())
    view = ChatView()
    async with aclosing(chat.run(words, request_id=request_id)) as stream:
        async for response in stream:
            view.apply(response)
            if view.live_text == "Hell\u00f6":
                break
    await served.clock.sleeping("sandbox.stall")
    view, cursor = reloaded(view), view.cursor
    shown = []
    async with aclosing(chat.run(words, request_id=request_id)) as stream:
        async for response in stream:
            view.apply(response)
            if response.event.HasField("caught_up"):
                assert view.cursor == cursor
                await served.clock.advance_to("sandbox.stall")
            if response.event.HasField("message_part"):
                shown.append(view.live_text)
    assert shown[0] == "Hell\u00f6"
    assert shown[-1] == "Hell\u00f6\nthere."
    assert (view.answer, view.live_text) == ("Hell\u00f6\nthere.", "")
    assert view.messages == await chat.messages()


async def test_a_repeat_through_another_server_adds_what_is_new(
    tmp_path: Path, postgres_url: str
) -> None:
    """There, the pieces of the answer come at once, just before its message."""
    words, request_id = "!say Hello\n!stall 1\n!say there.", str(uuid4())
    async with (
        serving(tmp_path / "one", database_url=postgres_url, migrate=True) as one,
        Client(one.app.address, one.key) as client,
    ):
        chat = await client.create_chat()
        view = ChatView()
        async with aclosing(chat.run(words, request_id=request_id)) as stream:
            async for response in stream:
                view.apply(response)
                if view.live_text == "Hello":
                    break
        await one.clock.sleeping("sandbox.stall")
        async with (
            serving(tmp_path / "two", database_url=postgres_url) as two,
            Client(two.app.address, two.key) as elsewhere,
        ):
            shown = set()
            async for response in elsewhere.chat(chat.id).run(words, request_id=request_id):
                view.apply(response)
                shown.add(view.live_text)
                if response.event.HasField("caught_up"):
                    await one.clock.advance_to("sandbox.stall")
            assert shown == {"Hello", "Hello\nthere.", ""}
            assert view.messages == await chat.messages()


async def test_a_view_goes_on_in_the_middle_of_an_answer(client: Client, served: Served) -> None:
    """Its text so far is kept, and exactly the missing text is added."""
    chat = await client.create_chat("!say Hello\n!stall 1\n!say there.")
    view = ChatView()
    async with aclosing(chat.follow()) as stream:
        async for response in stream:
            view.apply(response)
            if view.live_text == "Hello":
                break
    view = reloaded(view)
    assert view.live_text == "Hello"
    shown = []
    await served.clock.sleeping("sandbox.stall")
    async with aclosing(chat.resume(view.cursor)) as stream:
        async for response in stream:
            view.apply(response)
            if response.event.HasField("caught_up"):
                await served.clock.advance_to("sandbox.stall")
            if response.event.HasField("message_part"):
                shown.append(view.live_text)
    assert shown[-1] == "Hello\nthere."
    assert (view.answer, view.live_text) == ("Hello\nthere.", "")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "not a stored ChatView", id="nothing"),
        pytest.param(
            chat_pb2.Cursor(sequence=7).SerializeToString(), "not a stored", id="a cursor"
        ),
        pytest.param(b"\x80\x04\x95", "not a stored ChatView", id="a pickle"),
        pytest.param(ChatView().dump()[:-1], "damaged", id="its end is missing"),
        pytest.param(ChatView().dump() + b"x", "damaged", id="something follows"),
        pytest.param(FORMAT + b"1\n\x90", "damaged", id="too little"),
        pytest.param(FORMAT + b"2\n\x90", "newer.*format 2", id="a later format"),
    ],
)
def test_foreign_bytes_are_not_loaded(data: bytes, words: str) -> None:
    """The file may be cut, of another program, or of a later version of this library."""
    with pytest.raises(ValueError, match=words):
        ChatView.load(data)
