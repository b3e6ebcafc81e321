"""The Python client of chatd: create a chat, send a message, follow it; resume is automatic.

    async with Client() as client:
        chat = await client.create_chat(tools=[get_weather])
        print(await chat.ask("What is the weather in Oslo?"))

`Client` is asynchronous; `SyncClient` is its twin for scripts. A stream that is cut goes on
behind the last event that was seen; client tools are functions under `@tool`.
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
