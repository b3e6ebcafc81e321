"""Tools that this service executes."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import msgspec

from chatd_server.domain.ids import ChatId, OwnerId, ToolCallId


class ToolSpec(msgspec.Struct, frozen=True):
    """A tool, as the model is told of it. `input_schema` is JSON text of an object schema."""

    name: str
    description: str
    input_schema: str


class ToolContext(msgspec.Struct, frozen=True):
    """What a tool may know of the call that it runs."""

    chat_id: ChatId
    owner_id: OwnerId
    call_id: ToolCallId


class ToolOutput(msgspec.Struct, frozen=True):
    """What a tool gave."""

    output: str
    is_json: bool = False
    is_error: bool = False
    #: Of an error: the arguments did not fit, so nothing was run (ToolErrorKind.INVALID_CALL).
    is_invalid_call: bool = False


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

    async def run(self, arguments: str, context: ToolContext) -> ToolOutput:
        """Run one call. `arguments` is the model's JSON text. Errors of the tool are outputs;
        anything raised becomes an error result that names the tool and not the traceback.
        """


class Tools(Protocol):
    """The tools that are active for a chat."""

    def active(self, model: str) -> Mapping[str, Tool]:
        """Return the built-in tools by name for chats of this model ("provider/model")."""

    def names(self) -> Iterable[str]:
        """Return every built-in name."""
