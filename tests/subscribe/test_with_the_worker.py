"""The whole server: what the worker and the sandbox model do, as a subscriber sees it."""

from pathlib import Path

from chatd.v1 import chat_service_pb2 as pb
from chatd.v1 import message_pb2
from chatd_server.domain.limits import PAGE_BYTES_MAX
from tests.kit.server import said, serving
from tests.subscribe.follower import Follower

TURNS = (
    "hello",
    "!think 5\n!say so it goes\n!call current_time {}\n!call sandbox_fail {}\n!step\n!text 40",
    "!say Let me see.\n!search_later cats\n!step\n!text 30",
    "!search cats\n!text 30\n!refuse no more",
    "!text 5\n!restart\n!text 20",
)
ANSWERS = 7


async def test_a_turn_of_the_worker_keeps_every_rule(tmp_path: Path) -> None:
    """Text, reasoning and tools of a real run: pieces equal what is committed."""
    async with serving(tmp_path) as server:
        created = await server.call("CreateChat", pb.CreateChatRequest())
        chat_id = created.chat.chat_id
        follower = Follower(
            server.chats, server.auth, chat_id, {"until": pb.SUBSCRIBE_UNTIL_FOREVER}
        )
        await follower.until("caught_up")
        for text in TURNS:
            sent = await server.call(
                "SendMessage", pb.SendMessageRequest(chat_id=chat_id, message=said(text))
            )
            await follower.until_sequence(sent.sequence)
            while not follower.events[-1].status_changed.stop_reason:
                assert await follower.next() is not None
        answers = [
            event.message_committed.attempt_id
            for event in follower.events
            if event.message_committed.message.model
        ]
        assert len(answers) == ANSWERS
        assert all(follower.complete(attempt_id) for attempt_id in answers)
        assert {"tool_call_started", "tool_call_finished"} <= set(follower.kinds)
        await follower.close()


async def test_a_result_behind_a_pause_is_that_of_the_call_before_it(tmp_path: Path) -> None:
    """The answer that asks ends PAUSED; the next one begins with the result, under the same id."""
    words = "!say Let me see.\n!search_later cats\n!step\n!say There."
    async with serving(tmp_path) as server:
        created = await server.call("CreateChat", pb.CreateChatRequest(message=said(words)))
        await server.settled(created.chat.chat_id)
        page = await server.call(
            "ListMessages", pb.ListMessagesRequest(chat_id=created.chat.chat_id)
        )
    _, asks, found = page.messages
    assert (asks.finish_reason, found.finish_reason) == (
        message_pb2.FINISH_REASON_PAUSED,
        message_pb2.FINISH_REASON_END_TURN,
    )
    assert kinds(asks) == ["text", "tool_call"]
    assert kinds(found) == ["tool_result", "source", "source", "text"]
    call, result = asks.parts[1].tool_call, found.parts[0].tool_result
    assert (result.tool_call_id, result.tool_name) == (call.tool_call_id, call.tool_name)
    assert call.executor == result.executor == message_pb2.TOOL_EXECUTOR_PROVIDER


def kinds(message: message_pb2.Message) -> list[str]:
    """Return which part stands where."""
    return [str(part.WhichOneof("kind")) for part in message.parts]


async def test_a_batch_of_long_results_reaches_a_client_with_default_limits(
    tmp_path: Path,
) -> None:
    """Nine results of the greatest size: no response is above 1 MiB, no list above a page."""
    words = '!call sandbox_fail {"kind": "too_long"}\n' * 9 + "!step\n!say done"
    async with serving(tmp_path) as server:
        created = await server.call("CreateChat", pb.CreateChatRequest(message=said(words)))
        chat_id = created.chat.chat_id
        settings = {"until": pb.SUBSCRIBE_UNTIL_SETTLED}
        follower = Follower(server.chats, server.auth, chat_id, settings)
        while await follower.next() is not None:
            pass
        assert follower.kinds[-1] == "stream_end"
        page = await server.call("ListMessages", pb.ListMessagesRequest(chat_id=chat_id))
        assert len(page.messages) > 1
        assert page.ByteSize() < PAGE_BYTES_MAX
