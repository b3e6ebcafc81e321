"""The context through the API: how full it is, compaction, clearing, and who sees what of it."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from chatd.v1 import chat_pb2, event_pb2, message_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.kit.server import Served, said, serving
from tests.subscribe.follower import committed_texts

FULL = "!say Hello.\n!usage input=80 output=2 limit=100"
MODEL_ONLY = message_pb2.VISIBILITY_MODEL


async def made(served: Served, text: str, **fields: Any) -> str:
    """Create a chat with a first message and wait for its turn; return its id."""
    request = pb.CreateChatRequest(model="sandbox/echo", message=said(text), **fields)
    chat_id = (await served.call("CreateChat", request)).chat.chat_id
    await served.settled(chat_id)
    return str(chat_id)


async def sends(served: Served, chat_id: str, text: str) -> list[pb.SubscribeResponse]:
    """Send a message; return all that its turn shows."""
    request = pb.SendMessageRequest(chat_id=chat_id, message=said(text))
    sent = await served.call("SendMessage", request)
    return await since(served, chat_id, sent.message.sequence - 1)


async def since(served: Served, chat_id: str, sequence: int) -> list[pb.SubscribeResponse]:
    """Return what a stream shows after a sequence until the chat has settled."""
    follow = pb.SubscribeRequest(
        chat_id=chat_id,
        resume_from=chat_pb2.Cursor(sequence=sequence),
        until=pb.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED,
    )
    return await served.subscribe(follow)


async def full(served: Served) -> str:
    """Return a chat that is 82 percent full, with all its steps used."""
    options = chat_pb2.TurnOptions(max_steps=1)
    return await made(served, FULL, options=options)


def kinds(responses: list[pb.SubscribeResponse]) -> list[str]:
    """Return the kinds of events, pieces in a row once."""
    found: list[str] = []
    for response in responses:
        kind = response.event.WhichOneof("event") or ""
        if not (kind == "message_part" and found[-1:] == [kind]):
            found.append(kind)
    return found


def events(responses: Sequence[pb.SubscribeResponse], kind: str) -> list[Any]:
    return [getattr(it.event, kind) for it in responses if it.event.WhichOneof("event") == kind]


async def test_a_chat_says_how_full_its_context_is(served: Served) -> None:
    """What the vendor counted, what is estimated, the window and the threshold; also a snapshot."""
    chat_id = await full(served)
    chat = await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))
    assert chat.context == chat_pb2.ContextLevel(
        used_tokens=82, estimated_tokens=2, limit_tokens=100, threshold_percent=70
    )
    first, *_ = await served.settled(chat_id)
    assert first.event.snapshot.context == chat.context


async def test_a_chat_without_an_answer_is_all_estimate(served: Served) -> None:
    """The window is what the server knows of the model."""
    request = pb.CreateChatRequest(model="sandbox/echo")
    chat_id = (await served.call("CreateChat", request)).chat.chat_id
    chat = await served.call("GetChat", pb.GetChatRequest(chat_id=chat_id))
    assert (chat.context.used_tokens, chat.context.limit_tokens) == (0, 1_000_000)


async def test_subscribers_see_a_compaction_in_the_documented_order(served: Served) -> None:
    """Started, pieces, message, finished, and only then the status; the pieces are the message."""
    chat_id = await full(served)
    compacted = await served.call("CompactChat", pb.CompactChatRequest(chat_id=chat_id))
    assert compacted.chat.turn_id
    responses = await since(served, chat_id, compacted.sequence - 1)
    # The stream may begin while the summary comes: then it catches up in the middle of it.
    shown = [kind for kind in kinds(responses) if kind != "caught_up"]
    begin = shown.index("compaction_started")
    assert shown[begin:] == [
        "compaction_started",
        "message_part",
        "message_committed",
        "compaction_finished",
        "status_changed",
        "stream_end",
    ]
    (message,) = [it.message for it in events(responses, "message_committed")]
    pieces: dict[int, str] = {}
    for part in events(responses, "message_part"):
        pieces[part.part_index] = pieces.get(part.part_index, "") + part.text
    assert pieces == committed_texts(message)
    assert (message.visibility, message.compressed) == (MODEL_ONLY, True)
    (finished,) = events(responses, "compaction_finished")
    assert finished == event_pb2.CompactionFinished(
        source=event_pb2.COMPACTION_SOURCE_MANUAL,
        boundary_position=message.position,
        tokens_before=82,
        tokens_after=finished.tokens_after,
        outcome=event_pb2.COMPACTION_OUTCOME_DONE,
        summary=pieces[1],
        used_percent=82,
        threshold_percent=70,
        limit_tokens=100,
    )
    (*_, status) = events(responses, "status_changed")
    assert status.stop_reason == chat_pb2.STOP_REASON_COMPACTED


async def test_a_full_context_is_compacted_before_the_next_answer(served: Served) -> None:
    """The model goes on with the newest message, which follows the summary."""
    chat_id = await full(served)
    responses = await sends(served, chat_id, "!say And on.")
    (finished,) = events(responses, "compaction_finished")
    assert finished.source == event_pb2.COMPACTION_SOURCE_AUTO
    *_, answer = events(responses, "message_committed")
    assert committed_texts(answer.message) == {0: "And on."}


async def test_a_turn_goes_on_with_its_plan_after_a_compaction_between_steps(
    served: Served,
) -> None:
    """The sandbox finds its next step in the summary."""
    text = '!call sandbox_lookup {"key": "a"}\n!usage input=80 limit=100\n!step\n!say There.'
    responses = await served.settled(await made(served, text))
    *_, last = [it for page in events(responses, "snapshot_messages") for it in page.messages]
    assert committed_texts(last) == {0: "There."}
    assert [
        it.compressed for page in events(responses, "snapshot_messages") for it in page.messages
    ] == [False, False, False, True, False]


async def test_a_context_that_is_too_long_is_compacted_once(served: Served) -> None:
    """And the model is called again."""
    chat_id = await made(served, "!say Hello.")
    responses = await sends(served, chat_id, "!context_too_long\n!say Fits.")
    assert len(events(responses, "compaction_finished")) == 1
    *_, answer = events(responses, "message_committed")
    assert committed_texts(answer.message) == {0: "Fits."}


async def test_a_failed_compaction_says_why_and_the_turn_goes_on(served: Served) -> None:
    """The open part is closed: reset, then the event with the error."""
    chat_id = await made(
        served,
        FULL + "\n!summary\n!say half\n!error overloaded 9",
        options=chat_pb2.TurnOptions(max_steps=1),
    )
    responses = await sends(served, chat_id, "!say And on.")
    (finished,) = events(responses, "compaction_finished")
    assert finished.outcome == event_pb2.COMPACTION_OUTCOME_FAILED
    assert finished.error.message == "The sandbox was asked to fail with overloaded."
    assert finished.attempt_id
    *_, status = events(responses, "status_changed")
    assert status.stop_reason == chat_pb2.STOP_REASON_END_TURN


async def test_clearing_begins_an_empty_context(served: Served) -> None:
    """The messages stay, the model sees none of them; doing it twice does nothing more."""
    chat_id = await full(served)
    cleared = await served.call("ClearContext", pb.ClearContextRequest(chat_id=chat_id))
    assert cleared.context.used_tokens == 0
    again = await served.call("ClearContext", pb.ClearContextRequest(chat_id=chat_id))
    assert again.sequence == cleared.sequence
    refusal = await served.refused("CompactChat", pb.CompactChatRequest(chat_id=chat_id))
    assert refusal.reason == "NOTHING_TO_COMPACT"
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    assert len(listed.messages) == 2


async def test_what_there_is_nothing_of_is_not_compacted(served: Served) -> None:
    """An empty chat, and one that was just compacted."""
    created = await served.call("CreateChat", pb.CreateChatRequest(model="sandbox/echo"))
    compact = pb.CompactChatRequest(chat_id=created.chat.chat_id)
    assert (await served.refused("CompactChat", compact)).reason == "NOTHING_TO_COMPACT"
    compact.chat_id = await full(served)
    await served.call("CompactChat", compact)
    await served.settled(compact.chat_id)
    refusal = await served.refused("CompactChat", compact)
    assert (refusal.reason, refusal.metadata) == ("NOTHING_TO_COMPACT", {"status": "WAITING"})


async def test_a_busy_chat_is_not_compacted_or_cleared(served: Served) -> None:
    """The refusal says the status."""
    request = pb.CreateChatRequest(model="sandbox/echo", message=said("!stall 60"))
    chat_id = (await served.call("CreateChat", request)).chat.chat_id
    await served.clock.sleeping("sandbox.stall")
    for method, wanted in (
        ("CompactChat", pb.CompactChatRequest(chat_id=chat_id)),
        ("ClearContext", pb.ClearContextRequest(chat_id=chat_id)),
    ):
        refusal = await served.refused(method, wanted)
        assert (refusal.reason, refusal.metadata["status"]) == ("WRONG_STATUS", "RUNNING")


async def test_a_request_that_is_repeated_compacts_once(served: Served) -> None:
    """The stored answer comes back."""
    chat_id = await full(served)
    request_id = "01890000-0000-7000-8000-000000000001"
    compact = pb.CompactChatRequest(chat_id=chat_id, request_id=request_id)
    first = await served.call("CompactChat", compact)
    await served.settled(chat_id)
    again = await served.call("CompactChat", compact)
    assert again.sequence == first.sequence
    clear = pb.ClearContextRequest(chat_id=chat_id, request_id=request_id)
    cleared = await served.call("ClearContext", clear)
    assert (await served.call("ClearContext", clear)).sequence == cleared.sequence


async def test_messages_for_the_model_alone_can_be_left_out(served: Served) -> None:
    """In lists and in snapshots; the log tells of them in any case."""
    chat_id = await full(served)
    await sends(served, chat_id, "!say And on.")
    listed = await served.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
    hidden = [it.position for it in listed.messages if it.visibility == MODEL_ONLY]
    assert len(hidden) == 2
    shown = await served.call(
        "ListMessages", pb.ListMessagesRequest(chat_id=chat_id, omit_model_messages=True)
    )
    positions = [it.position for it in listed.messages if it.position not in hidden]
    assert [it.position for it in shown.messages] == positions
    follow = pb.SubscribeRequest(
        chat_id=chat_id, omit_model_messages=True, until=pb.SUBSCRIBE_UNTIL_SETTLED
    )
    pages = events(await served.subscribe(follow), "snapshot_messages")
    assert [it.position for page in pages for it in page.messages] == positions
    replayed = events(await since(served, chat_id, 0), "message_committed")
    assert len(replayed) == len(listed.messages)


async def test_pages_go_on_where_a_page_was_left_out(served: Served) -> None:
    """A page without a message for people still has its token."""
    chat_id = await full(served)
    await sends(served, chat_id, "!say And on.")
    request = pb.ListMessagesRequest(chat_id=chat_id, omit_model_messages=True, page_size=1)
    found: list[int] = []
    while True:
        page = await served.call("ListMessages", request)
        found += [it.position for it in page.messages]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    everything = pb.ListMessagesRequest(chat_id=chat_id, omit_model_messages=True)
    whole = await served.call("ListMessages", everything)
    assert found == [it.position for it in whole.messages]


@pytest.fixture
async def lenient(tmp_path: Path) -> AsyncIterator[Served]:
    """A server whose settings come from a file."""
    (tmp_path / "chatd.toml").write_text(
        'compaction_threshold_percent = 90\n[compaction_threshold_models]\n"sandbox/echo" = 100\n'
    )
    async with serving(tmp_path) as server:
        yield server


async def test_thresholds_are_settings(lenient: Served) -> None:
    """Of a model, here: never."""
    chat_id = await full(lenient)
    chat = await lenient.call("GetChat", pb.GetChatRequest(chat_id=chat_id))
    assert chat.context.threshold_percent == 100
    responses = await sends(lenient, chat_id, "!say And on.")
    assert not events(responses, "compaction_finished")
