"""The Python client of chatd: create a chat, send a message, follow it; resume is automatic.

    import asyncio
    from chatd_client import Client, tool

    @tool
    async def get_weather(city: str) -> str:
        '''Say what the weather is in a city.'''
        return f"It rains in {city}."

    async def main() -> None:
        async with Client() as client:
            chat = await client.create_chat(model="sandbox/echo", tools=[get_weather])
            print(await chat.ask('!call get_weather {"city": "Oslo"}'))

    asyncio.run(main())

`sandbox/echo` is a model that follows directives in the message; others take plain text.

Where to begin:

- `Client` is the connection: it makes chats and lists them. `SyncClient` is its twin for scripts
  without an event loop. Both find the server and the key by `find_endpoint`.
- `ChatHandle` is one chat: `ask` returns an answer, `text` yields it as it comes, `run` yields
  every event, `resume` goes on after a restart of the program. `SyncChat` is its twin.
- `ChatView` folds events into what a person sees, and can be stored.
- `tool` lets the model call your function; `ToolRunner` answers the calls of a chat as they come.

`help(chatd_client.ChatHandle)` shows one class; below, all of them follow, with what they inherit.

Errors are `ChatdError`: each subclass stands for one thing that a program can do about it. A
mistake in the program itself (a function without `@tool`) is a TypeError. The logger "chatd_client"
logs what your tools raise, and calls of tools that this program does not have. Messages of the
contract, such as `Chat`, are those of `chatd.v1`. Seconds are float, and lengths count bytes of
UTF-8.
"""

from chatd_client.chat import ChatHandle
from chatd_client.client import Client
from chatd_client.connection import Endpoint, find_endpoint
from chatd_client.errors import (
    ChatdError,
    Conflict,
    InvalidRequest,
    NotFound,
    NotImplementedByServer,
    PermissionDenied,
    StreamLost,
    TurnFailed,
    Unavailable,
)
from chatd_client.follow import Reconnect
from chatd_client.runner import ToolRunner
from chatd_client.sync import SyncChat, SyncClient
from chatd_client.tools import ClientTool, ToolCallContext, ToolFailed, tool
from chatd_client.turn import Voided
from chatd_client.view import ChatView

__all__ = [
    "ChatHandle",
    "ChatView",
    "ChatdError",
    "Client",
    "ClientTool",
    "Conflict",
    "Endpoint",
    "InvalidRequest",
    "NotFound",
    "NotImplementedByServer",
    "PermissionDenied",
    "Reconnect",
    "StreamLost",
    "SyncChat",
    "SyncClient",
    "ToolCallContext",
    "ToolFailed",
    "ToolRunner",
    "TurnFailed",
    "Unavailable",
    "Voided",
    "find_endpoint",
    "tool",
]
