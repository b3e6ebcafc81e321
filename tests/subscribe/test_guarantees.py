"""The nine guarantees that stand in the contract, one test each, on both databases."""

from chatd.v1 import chat_pb2
from chatd.v1 import chat_service_pb2 as pb
from tests.subscribe.scene import Edge


async def test_first(edge: Edge) -> None:
    """x"""
    chat = await edge.chat()
    follower = edge.follow(chat.id)
    await follower.until("caught_up")
    writer = await chat.begin()
    writer.text(0, "so ")
    writer.text(0, "it goes")
    await follower.until("message_part")
    await chat.commit("so it goes")
    await chat.finish()
    await follower.until_sequence(chat.state.head_sequence)
    assert follower.complete(chat.attempt_id)
    print(follower.kinds)
    await follower.close()
