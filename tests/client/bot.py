"""A bot as a user writes it, to be run as a process: `python -m tests.client.bot`.

It stores the cursor of each response, and continues there after a restart. In the first process its
tool never ends; the tool reports only after the event that asked for it is stored, because it may
begin before that event arrives.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from chatd.v1 import chat_pb2, chat_service_pb2
from chatd_client import ChatHandle, Client, ToolCallContext, tool

asked = asyncio.Event()
"""The event that asks for the call is stored."""

WORDS = "!call book {}\n!step\n!say Thank you."


@tool
async def book(context: ToolCallContext) -> str:
    """Book a table."""
    if "first" in sys.argv:
        await asked.wait()
    say(f"running {context.tool_call_id}")
    if "first" in sys.argv:
        await asyncio.get_running_loop().create_future()
    return "booked"


def say(line: str) -> None:
    """Print a line for the test."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def store(path: Path, cursor: chat_pb2.Cursor) -> None:
    """Store the cursor; a renamed file is complete, whenever this process is killed."""
    new = path.with_suffix(".new")
    new.write_bytes(cursor.SerializeToString())
    new.rename(path)


def responses(chat: ChatHandle, path: Path) -> AsyncIterator[chat_service_pb2.SubscribeResponse]:
    """Begin, or go on."""
    if not path.exists():
        return chat.run(WORDS)
    return chat.resume(chat_pb2.Cursor.FromString(path.read_bytes()))


async def main() -> None:
    """Follow the chat until it has settled."""
    path = Path(os.environ["BOT_CURSOR"])
    async with Client() as client:
        async for response in responses(client.chat(os.environ["BOT_CHAT"], [book]), path):
            store(path, response.cursor)
            if response.event.HasField("action_required"):
                asked.set()
    say("settled")


if __name__ == "__main__":
    asyncio.run(main())
