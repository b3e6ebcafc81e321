"""Models of vendors."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from chatd_server.domain.chat import Effort
from chatd_server.domain.message import Message
from chatd_server.domain.stream import StreamPart
from chatd_server.ports.tools import ToolSpec


class ModelRequest(msgspec.Struct, frozen=True):
    """One model call. `messages` is the whole context, in order, the same objects each time."""

    messages: Sequence[Message]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    effort: Effort | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    #: From 1; rises with each retry of the same step.
    attempt_number: int = 1


class Conversation(Protocol):
    """One run's calls to one model; what it encoded for one step it splices into the next."""

    def stream(self, request: ModelRequest) -> AsyncIterator[StreamPart]:
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

    def conversation(self) -> Conversation:
        """Begin the calls of one run."""


class Models(Protocol):
    """The configured models; adapters are imported when first used."""

    def get(self, name: str) -> Model:
        """Return a model; raises ModelNotFound."""

    def names(self) -> Sequence[str]:
        """Return examples of names that `get` takes."""
