"""Real servers that are killed (SIGKILL) in the middle of a compaction."""

import signal
from pathlib import Path

import grpc
import pytest

from chatd.v1 import chat_pb2, chat_service_pb2_grpc, event_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.cli.programs import SECONDS_MAX, serving
from tests.kit.server import said
from tests.subscribe.follower import Follower, committed_texts
from tests.worker.test_killed_servers import key, settings

SLOW = "!say Hello.\n!usage input=80 limit=100\n!summary\n!text 40 20/s"


@pytest.fixture(params=["sqlite", "postgres"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of the servers, which share a database."""
    if request.param == "sqlite":
        return {"CHATD_LOG_LEVEL": "warning"}
    return settings(request.getfixturevalue("postgres_url"))


@pytest.mark.parametrize("is_requested", [True, False], ids=["requested", "automatic"])
async def test_a_killed_compaction_is_done_by_the_next_server(
    tmp_path: Path, environment: dict[str, str], is_requested: bool
) -> None:
    """Nothing half-written: the open part is reset, and one whole summary is committed."""
    with serving(tmp_path, **environment) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = chat_service_pb2_grpc.ChatServiceStub(channel)
            auth = key(tmp_path)
            options = chat_pb2.TurnOptions(max_steps=1)
            create = pb.CreateChatRequest(message=said(SLOW), options=options)
            created = await stub.CreateChat(create, metadata=auth, timeout=SECONDS_MAX)
            chat_id = created.chat.chat_id
            until = pb.SubscribeRequest(chat_id=chat_id, until=pb.SUBSCRIBE_UNTIL_SETTLED)
            async for _ in stub.Subscribe(until, metadata=auth, timeout=SECONDS_MAX):
                pass
            if is_requested:
                compact = pb.CompactChatRequest(chat_id=chat_id)
                await stub.CompactChat(compact, metadata=auth, timeout=SECONDS_MAX)
            else:
                send = pb.SendMessageRequest(chat_id=chat_id, message=said("!say On."))
                await stub.SendMessage(send, metadata=auth, timeout=SECONDS_MAX)
            follower = Follower(stub, auth, chat_id, {"until": pb.SUBSCRIBE_UNTIL_SETTLED})
            await follower.until("compaction_started")
            for _ in range(3):
                await follower.until("message_part")
            follower.cut()
            server.stop(signal.SIGKILL)
    interrupted = follower.open_attempt
    with serving(tmp_path, **environment) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            follower._stub = chat_service_pb2_grpc.ChatServiceStub(channel)
            end = await follower.to_the_end()
            await follower.close()
    assert end.reason == event_pb2.STREAM_END_REASON_UNTIL_REACHED
    assert interrupted in follower.resets
    committed = [it.message_committed for it in follower.events if it.HasField("message_committed")]
    (summary,) = [it for it in committed if it.message.compressed and it.attempt_id]
    assert summary.attempt_id != interrupted
    assert follower.complete(summary.attempt_id)
    assert len(committed_texts(summary.message)[1].split()) == 40
    (finished,) = [
        it.compaction_finished for it in follower.events if it.HasField("compaction_finished")
    ]
    assert finished.outcome == event_pb2.COMPACTION_OUTCOME_DONE
    if not is_requested:
        assert committed_texts(committed[-1].message) == {0: "On."}
