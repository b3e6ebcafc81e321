"""Models of vendors."""

from collections.abc import AsyncIterator, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from chatd_server.domain.answer_parts import AnswerPart
from chatd_server.domain.chat import Effort
from chatd_server.domain.message import Message
from chatd_server.ports.tools import ToolSpec, VendorTool


class ToolChoiceMode(StrEnum):
    """Whether the model calls tools."""

    AUTO = "auto"
    #: It calls at least one.
    REQUIRED = "required"
    NONE = "none"


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tools the model calls. `name`, with REQUIRED: this one."""

    mode: ToolChoiceMode = ToolChoiceMode.AUTO
    name: str = ""


class Purpose(StrEnum):
    """What a model call is for."""

    ANSWER = "answer"
    #: A summary of the messages; the last one asks for it.
    SUMMARY = "summary"
    #: A title for the conversation that the message quotes.
    TITLE = "title"


class ModelRequest(msgspec.Struct, frozen=True):
    """One model call. `messages` is the whole context, in order, the same objects each time."""

    messages: Sequence[Message]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    vendor_tools: tuple[VendorTool, ...] = ()
    #: None: as the vendor does without it.
    tool_choice: ToolChoice | None = None
    #: JSON text of the schema that the answer must match; empty: any answer.
    response_schema: str = ""
    #: The vendor's id of the newest answer, if this model gave it: for vendors that keep the
    #: conversation themselves.
    previous_response_id: str = ""
    effort: Effort | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    #: From 1; rises with each retry of the same step.
    attempt_number: int = 1
    #: For models that do not read what they are asked, such as the sandbox.
    purpose: Purpose = Purpose.ANSWER


class Conversation(Protocol):
    """One run's calls to one model; what it encoded for one step it splices into the next."""

    def stream(self, request: ModelRequest) -> AsyncIterator[AnswerPart]:
        """Yield the answer's parts; the last is Finished. Raises ModelFailure and nothing else.

        Closing the iterator (or cancelling it) drops the connection.
        """


class Model(Protocol):
    """One configured model of one vendor."""

    @property
    def name(self) -> str:
        """Return "provider/model"."""

    @property
    def provider(self) -> str:
        """Return the provider's name."""

    @property
    def context_limit(self) -> int | None:
        """Return the size of its context window in tokens; None when unknown."""

    def conversation(self) -> Conversation:
        """Begin the calls of one run."""


class Models(Protocol):
    """The configured models; adapters are imported when first used."""

    def get(self, name: str) -> Model:
        """Return a model; raises ModelNotFound."""

    def names(self) -> Sequence[str]:
        """Return examples of names that `get` takes."""
