"""The generated blocking stub alone: no client library, no asyncio.

    python examples/plain_stub.py "hello"

It makes a chat with one message and prints the answer as it comes. It shows what every client of
the contract has to do:

- Send the key as metadata of each call.
- Keep the cursor of the last response, and subscribe again from there when the stream is cut; here
  for up to 20 seconds. An error without ErrorInfo means a cut, whatever its code: try again. An
  error with ErrorInfo is an answer of chatd, and final unless it has a RetryInfo.
- Honour `preview_reset`: what was printed of the answer is void, and the answer begins again.
- Print the words of a refusal like those of an answer.
- Notice a turn that failed. It ends with one sentence on standard error and exit code 1, and so do
  a wrong key and a server that is not there.

The message is sent once: a client that tries CreateChat again gives it a `request_id`.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import cast

import grpc
from grpc_status import rpc_status

from chatd.v1 import chat_pb2, chat_service_pb2, chat_service_pb2_grpc, event_pb2, message_pb2

TRY_SECONDS, PAUSE_SECONDS = 20.0, 0.5
VOID = "\n[the answer broke off here, and begins again]\n"
GOES_ON = (event_pb2.STREAM_END_REASON_DRAINING, event_pb2.STREAM_END_REASON_MAX_DURATION)


def say(channel: grpc.Channel, key: str, text: str) -> Iterator[str]:
    """Make a chat with one message, and yield its answer to be printed as it is. Raises RpcError
    where the server refuses or stays away, and RuntimeError for a turn that failed.
    """
    stub = chat_service_pb2_grpc.ChatServiceStub(channel)
    metadata = (("authorization", f"Bearer {key}"),)
    part = message_pb2.UserPart(text=message_pb2.UserText(text=text))
    request = chat_service_pb2.CreateChatRequest(message=message_pb2.UserMessage(parts=[part]))
    created = stub.CreateChat(request, metadata=metadata)
    printed = ""  # what was yielded of the answer in progress
    for event in follow(stub, metadata, created.chat.chat_id, created.sequence):
        kind, message = event.WhichOneof("event"), event.message_committed.message
        if kind == "message_part":
            words = event.message_part.text or event.message_part.refusal
            printed += words
            yield words
        elif kind == "preview_reset" and printed:
            printed = ""
            yield VOID
        elif kind == "message_committed" and message.role == message_pb2.ROLE_ASSISTANT:
            # A stream that was away for the end of an answer gets the message and no pieces.
            answer = "".join(it.text.text or it.refusal.text for it in message.parts)
            yield answer[len(printed) :] + "\n"
            printed = ""
        elif kind == "status_changed" and event.status_changed.HasField("last_error"):
            if printed:
                yield "\n"
            raise RuntimeError(f"The turn failed: {event.status_changed.last_error.message}")


def follow(
    stub: chat_service_pb2_grpc.ChatServiceStub,
    metadata: tuple[tuple[str, str], ...],
    chat_id: str,
    sequence: int,
) -> Iterator[event_pb2.ChatEvent]:
    """Yield what follows a sequence until the chat has settled, each thing once, across cuts."""
    request = chat_service_pb2.SubscribeRequest(
        chat_id=chat_id,
        until=chat_service_pb2.SUBSCRIBE_UNTIL_ACTION_OR_SETTLED,
        resume_from=chat_pb2.Cursor(sequence=sequence),
    )
    give_up_at = monotonic() + TRY_SECONDS
    while True:
        try:
            for response in stub.Subscribe(request, metadata=metadata):
                request.resume_from.CopyFrom(response.cursor)
                give_up_at = monotonic() + TRY_SECONDS
                yield response.event
                end = response.event.stream_end
                if response.event.HasField("stream_end") and end.reason not in GOES_ON:
                    return
        except grpc.RpcError as error:
            if is_final(error) or monotonic() > give_up_at:
                raise
        sleep(PAUSE_SECONDS)


def is_final(error: grpc.RpcError) -> bool:
    """Say whether chatd answered so, and does not ask to try again (RetryInfo)."""
    status = rpc_status.from_call(cast("grpc.Call", error))  # None without ErrorInfo
    return status is not None and not any("RetryInfo" in it.type_url for it in status.details)


def main() -> None:
    """Say the words of the command line to a server on loopback."""
    home = Path(os.environ.get("CHATD_HOME") or Path.home() / ".local" / "share" / "chatd")
    address = os.environ.get("CHATD_ADDRESS", "127.0.0.1:7410")
    try:
        key = os.environ.get("CHATD_KEY")
        key = (home / "root.key").read_text().strip() if key is None else key
        with grpc.insecure_channel(address) as channel:
            for words in say(channel, key, " ".join(sys.argv[1:]) or "hello"):
                print(words, end="", flush=True)
    except FileNotFoundError as error:
        sys.exit(f"There is no key in {error.filename}: start `chatd serve`, or set CHATD_KEY.")
    except grpc.RpcError as error:
        if is_final(error):
            sys.exit(f"The server at {address} refused: {error.details()}.")
        sys.exit(f"No server answers at {address}: start one with `chatd serve`.")
    except RuntimeError as failure:
        sys.exit(str(failure))
    except BrokenPipeError:
        # Python would try once more to write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit("Nobody reads the answer any more; it goes on at the server.")


if __name__ == "__main__":
    main()
