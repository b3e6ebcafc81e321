"""Tools that this service executes."""

from collections.abc import Hashable, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from chatd_server.domain.chat import ChatState
from chatd_server.domain.ids import ChatId, Instant, OwnerId, ToolCallId, TurnId
from chatd_server.domain.message import ResultFile


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool, as the model is told of it. `input_schema` is JSON text of an object schema."""

    name: str
    description: str
    input_schema: str


class VendorToolKind(StrEnum):
    """Tools whose schema the vendors know and name for themselves."""

    WEB_SEARCH = "web_search"


class VendorTool(msgspec.Struct, frozen=True):
    """A tool that the vendor defines: its adapter writes it as this vendor types it.

    An adapter whose vendor does not have the kind leaves it out.
    """

    kind: VendorToolKind
    #: How often the model may call it in one answer; None: as the vendor likes.
    uses_max: int | None = None


class ToolContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool may know of the call that it runs."""

    chat_id: ChatId
    owner_id: OwnerId
    turn_id: TurnId
    call_id: ToolCallId
    #: When the model had emitted the call.
    called_at: Instant


class ToolOutput(msgspec.Struct, frozen=True):
    """What a tool gave."""

    output: str
    is_json: bool = False
    is_error: bool = False
    #: Of an error: the arguments did not fit, so nothing was run (ToolErrorKind.INVALID_CALL).
    is_invalid_call: bool = False
    files: tuple[ResultFile, ...] = ()


class Tool(Protocol):
    """A tool that this service executes."""

    @property
    def spec(self) -> ToolSpec:
        """What the model is told."""

    @property
    def idempotent(self) -> bool:
        """Whether a call that had started may be run again after a crash."""

    @property
    def ends_turn(self) -> bool:
        """Whether a call without an error ends the turn."""

    @property
    def exclusive(self) -> bool:
        """Whether it runs only as the one call of its answer; calls that the vendor executes do not
        count. Else no call of that answer runs.
        """

    async def run(self, arguments: str, context: ToolContext) -> ToolOutput:
        """Run one call. `arguments` is the model's JSON text. Errors of the tool are outputs;
        anything raised becomes an error result that names the tool and not the traceback.
        """


class ToolSource(Protocol):
    """Tools that chats get from one place: what chatd brings along, a workspace, an MCP server."""

    def version(self, chat: ChatState, model: str) -> Hashable:
        """Return a value that differs whenever `tools` would answer differently.

        Asked before every model call and every batch, so it is quick and does no I/O.
        """

    async def tools(self, chat: ChatState, model: str) -> Sequence[Tool]:
        """Return the tools that this chat has now with this model ("provider/model").

        Raises nothing: a source that cannot be reached gives the tools that it knows, or none.
        """
