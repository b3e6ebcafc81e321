"""The generated blocking stub alone: no client library, no asyncio.

    python examples/plain_stub.py "hello"

It shows what any gRPC client has to do: send the key as metadata, and read a stream. What it
leaves out is what a client library is for: it does not resume when the stream is cut.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc

from chatd.v1 import chat_service_pb2, chat_service_pb2_grpc, message_pb2


def say(channel: grpc.Channel, key: str, text: str) -> Iterator[str]:
    """Create a chat with one message, and yield the words of the answer as they come."""
    stub = chat_service_pb2_grpc.ChatServiceStub(channel)
    metadata = (("authorization", f"Bearer {key}"),)
    part = message_pb2.UserPart(text=message_pb2.UserText(text=text))
    created = stub.CreateChat(
        chat_service_pb2.CreateChatRequest(message=message_pb2.UserMessage(parts=[part])),
        metadata=metadata,
    )
    request = chat_service_pb2.SubscribeRequest(
        chat_id=created.chat.chat_id,
        until=chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED,
    )
    for response in stub.Subscribe(request, metadata=metadata):
        if response.event.HasField("message_part"):
            yield response.event.message_part.text


def main() -> None:
    """Say the words of the command line to a server on loopback."""
    home = Path(os.environ.get("CHATD_HOME") or Path.home() / ".local" / "share" / "chatd")
    key_file = home / "root.key"
    try:
        key = os.environ.get("CHATD_KEY") or key_file.read_text().strip()
        with grpc.insecure_channel(os.environ.get("CHATD_ADDRESS", "127.0.0.1:7410")) as channel:
            for words in say(channel, key, " ".join(sys.argv[1:]) or "hello"):
                print(words, end="", flush=True)
        print(flush=True)
    except FileNotFoundError:
        sys.exit(f"There is no key in {key_file}: start `chatd serve`, or set CHATD_KEY.")
    except BrokenPipeError:
        # Python would try once more to write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit("Nobody reads the answer any more; it goes on at the server.")


if __name__ == "__main__":
    main()
