"""What a line of `chatd chat` that begins with a slash does: /queue, /edit, /retry, /help."""

import re
from collections.abc import Awaitable

from chatd.v1 import message_pb2
from chatd_client import ChatHandle, InvalidRequest
from chatd_server.cli.queue import words_of
from chatd_server.cli.sending import Sent, edited, promoted, retried
from chatd_server.cli.transcript import Transcript

_COMMAND = re.compile(r"/([a-z]+)(?:\s+(.*))?", re.DOTALL)
_NUMBERED = re.compile(r"(delete|promote)\s+([0-9]{1,3})")

HELP = """\
  /queue                 what waits for its turn
  /queue promote NUMBER  let that message be the next one
  /queue delete NUMBER   take that message out
  /edit TEXT             say TEXT instead of your newest message
  /retry                 run the failed turn again
  /compact               summarise what the model knows of the chat
  /clear                 let the model forget what was said
  /help                  this list
  To say a line that looks like one of these, begin it with a space."""


def command_of(line: str) -> tuple[str, str] | None:
    """Return the name and the rest of a command; None for a line that is to be said."""
    found = _COMMAND.fullmatch(line)
    return None if found is None else (found[1], (found[2] or "").strip())


async def begun(
    handle: ChatHandle, name: str, rest: str, transcript: Transcript
) -> Awaitable[Sent] | None:
    """Carry out a command; return what begins a turn that is then to be followed, if it does.

    Raises InvalidRequest for what is no command, or lacks something.
    """
    match name:
        case "queue":
            return await _queue(handle, rest, transcript)
        case "edit" if rest:
            return edited(handle, await _newest_own(handle), rest)
        case "retry" if not rest:
            return retried(handle)
        case _:
            raise InvalidRequest(f"/{name} is not possible like this. What is:\n{HELP}")


async def _queue(handle: ChatHandle, rest: str, transcript: Transcript) -> Awaitable[Sent] | None:
    queue = await handle.queued_messages()
    if rest:
        return await _with_one(handle, queue, rest, transcript)
    for number, message in enumerate(queue, 1):
        transcript.line(f"  {number}  {words_of(message)}")
    if not queue:
        transcript.line("  nothing is queued", "dim")
    return None


async def _with_one(
    handle: ChatHandle,
    queue: list[message_pb2.QueuedMessage],
    rest: str,
    transcript: Transcript,
) -> Awaitable[Sent] | None:
    found = _NUMBERED.fullmatch(rest)
    if found is None or not 1 <= int(found[2]) <= len(queue):
        raise InvalidRequest("name a message by its number in /queue: /queue delete 1")
    message_id = queue[int(found[2]) - 1].message_id
    if found[1] == "promote":
        return promoted(handle, message_id)
    await handle.delete_queued(message_id)
    transcript.line("  it is out of the queue", "dim")
    return None


async def _newest_own(handle: ChatHandle) -> str:
    for message in reversed(await handle.messages()):
        if message.role == message_pb2.ROLE_USER:
            return message.message_id
    raise InvalidRequest("there is no message of yours to edit")
