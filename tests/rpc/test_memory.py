"""What a refused call leaves in memory: grpc keeps some of it until the cyclic collector runs."""

import gc
from typing import Any

import pytest
from google.protobuf.message import Message

from chatd.v1 import chat_service_pb2 as pb
from tests.kit.server import Served, refused, said

NOBODY = "01890000-0000-7000-8000-000000000000"
LARGE = "x" * 300_000


def requests(kind: type[Message]) -> int:
    """Return how many requests there are; other tests may hold some."""
    return sum(isinstance(it, kind) for it in gc.get_objects())


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize(
    ("method", "text", "reason"),
    [
        ("CreateChat", {"message": said(LARGE)}, "INVALID_FIELD"),
        ("SendMessage", {"chat_id": NOBODY, "message": said("x")}, "CHAT_NOT_FOUND"),
        ("GetChat", {"chat_id": NOBODY}, "CHAT_NOT_FOUND"),
        ("EditMessage", {"chat_id": NOBODY, "message": said(LARGE)}, "CHAT_NOT_FOUND"),
        ("RegenerateTitle", {"chat_id": NOBODY}, "CHAT_NOT_FOUND"),
    ],
)
async def test_a_refused_request_is_forgotten_at_once(
    served: Served, method: str, text: dict[str, object], reason: str
) -> None:
    """A client that sends large invalid requests cannot fill the memory of the server."""
    kind: type[Message] = getattr(pb, f"{method}Request")
    body = kind(**text).SerializeToString()
    before = requests(kind)
    for _ in range(3):
        refusal = await refused(lambda: served.raw(method, body))
        assert refusal.reason == reason
    assert requests(kind) == before


@pytest.mark.usefixtures("without_collector")
async def test_a_refused_stream_is_forgotten_at_once(served: Served) -> None:
    """The same for Subscribe."""
    body = pb.SubscribeRequest(chat_id=NOBODY).SerializeToString()
    before = requests(pb.SubscribeRequest)
    subscribe: Any = served.channel.unary_stream("/chatd.v1.ChatService/Subscribe")
    for _ in range(3):
        assert (
            await refused(subscribe(body, metadata=served.auth).read)
        ).reason == "CHAT_NOT_FOUND"
    assert requests(pb.SubscribeRequest) == before
