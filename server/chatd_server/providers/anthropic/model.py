"""An Anthropic model as a `Model`."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import chain

import msgspec

from chatd_server.domain.answer_parts import AnswerPart
from chatd_server.domain.chat import Effort
from chatd_server.ports.models import Conversation, ModelRequest, ToolChoice, ToolChoiceMode
from chatd_server.ports.tools import ToolSpec, VendorTool, VendorToolKind
from chatd_server.providers.anthropic import errors
from chatd_server.providers.anthropic.decode import AnswerDecoder
from chatd_server.providers.anthropic.encode import MessageEncoder
from chatd_server.providers.anthropic.facts import OUTPUT_TOKENS_DEFAULT, facts_of
from chatd_server.providers.http.causes import TransportFailure
from chatd_server.providers.http.sse import EventSplitter, EventTooLarge
from chatd_server.providers.http.transport import Transport, read_body

VERSION = "2023-06-01"
BASE_URL = "https://api.anthropic.com"


_BUDGETS = {
    Effort.MINIMAL: 1_024,
    Effort.LOW: 4_000,
    Effort.MEDIUM: 10_000,
    Effort.HIGH: 24_000,
    Effort.XHIGH: 48_000,
    Effort.MAX: 60_000,
}
_EFFORTS = {Effort.MINIMAL: "low", Effort.XHIGH: "xhigh"}


class AnthropicModel:
    """A configured model; `name` is "anthropic/" followed by the vendor's name."""

    def __init__(self, model: str, *, api_key: str, base_url: str, transport: Transport) -> None:
        self._model = model
        self._api_key = api_key
        self._url = base_url.rstrip("/") + "/v1/messages"
        self._transport = transport

    @property
    def name(self) -> str:
        return f"{errors.PROVIDER}/{self._model}"

    @property
    def provider(self) -> str:
        return errors.PROVIDER

    @property
    def context_limit(self) -> int:
        return facts_of(self._model).context_tokens_max

    def conversation(self) -> Conversation:
        headers = {
            "x-api-key": self._api_key,
            "anthropic-version": VERSION,
            "content-type": "application/json",
            "accept": "text/event-stream",
        }
        return AnthropicConversation(self._model, self._url, headers, self._transport)


class AnthropicConversation:
    """The calls of one run; each step reuses what earlier steps encoded."""

    def __init__(self, model: str, url: str, headers: dict[str, str], transport: Transport) -> None:
        self._model = model
        self._url = url
        self._headers = headers
        self._transport = transport
        self._messages = MessageEncoder(model)
        self._tools: tuple[tuple[ToolSpec, ...], tuple[VendorTool, ...], bytes] = ((), (), b"")

    async def stream(self, request: ModelRequest) -> AsyncIterator[AnswerPart]:
        """Yield the parts of one answer. Raises ModelFailure."""
        answer = _Answer(AnswerDecoder(self._model))
        if self._messages.is_quick(request.messages):
            body = self.encode(request)
        else:
            body = await asyncio.to_thread(self.encode, request)
        try:
            async with self._transport.post(self._url, self._headers, body) as response:
                if response.status != 200:  # noqa: PLR2004  the only success status
                    body = await read_body(response)
                    raise errors.from_response(response.status, response.headers, body)
                # Not delegated to another generator: each level adds a cost per token.
                async for chunk in response.chunks:
                    for part in answer.feed(chunk):
                        yield part
                    if answer.is_complete:
                        return
                for part in answer.end():
                    yield part
        except TransportFailure as error:
            raise errors.DIALECT.unreachable(error) from error
        except EventTooLarge as error:
            raise errors.DIALECT.cut() from error

    def encode(self, request: ModelRequest) -> bytes:
        """Return the body of a request. Reuses what earlier steps encoded."""
        head: dict[str, object] = {"model": self._model, "stream": True, **self._sampling(request)}
        if request.system:
            mark = {"cache_control": {"type": "ephemeral"}}
            head["system"] = [{"type": "text", "text": request.system, **mark}]
        body = msgspec.json.encode(head)[:-1]
        if request.tools or request.vendor_tools:
            body += b',"tools":' + self._encoded_tools(request.tools, request.vendor_tools)
        return b"".join((body, b',"messages":[', *self._messages.pieces(request.messages), b"]}"))

    def _encoded_tools(
        self, tools: tuple[ToolSpec, ...], vendor_tools: tuple[VendorTool, ...]
    ) -> bytes:
        known, vendor_known, encoded = self._tools
        if (known is tools or known == tools) and vendor_known == vendor_tools:
            return encoded
        specs = [*map(_described, tools), *map(_typed, vendor_tools)]
        encoded = msgspec.json.encode(specs)
        self._tools = (tools, vendor_tools, encoded)
        return encoded

    def _sampling(self, request: ModelRequest) -> dict[str, object]:
        """Return max_tokens, thinking, tool_choice and temperature, which depend on each other."""
        facts = facts_of(self._model)
        most = request.max_output_tokens or min(OUTPUT_TOKENS_DEFAULT, facts.output_tokens_max)
        fields: dict[str, object] = {"max_tokens": most}
        output: dict[str, object] = {}
        effort = request.effort
        thinks = effort is not None and effort is not Effort.NONE and bool(facts.thinks)
        if thinks and effort is not None and facts.thinks == "adaptive":
            fields["thinking"] = {"type": "adaptive"}
            output["effort"] = _EFFORTS.get(effort, effort.value)
        elif thinks and effort is not None:
            # The thinking budget must be below max_tokens and at least 1,024.
            most = max(most, 2 * _BUDGETS[Effort.MINIMAL])
            budget = min(_BUDGETS[effort], most // 2)
            fields |= {"max_tokens": most, "thinking": {"type": "enabled", "budget_tokens": budget}}
        if request.response_schema:
            schema = msgspec.Raw(request.response_schema.encode())
            output["format"] = {"type": "json_schema", "schema": schema}
        if output:
            fields["output_config"] = output
        if request.tool_choice is not None:
            fields["tool_choice"] = _choice(request.tool_choice, thinks=thinks)
        if request.temperature is not None and not thinks:
            fields["temperature"] = min(request.temperature, 1.0)
        return fields


def _described(tool: ToolSpec) -> Mapping[str, object]:
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": msgspec.Raw((tool.input_schema or _NO_ARGUMENTS).encode()),
    }


def _typed(tool: VendorTool) -> Mapping[str, object]:
    limit = {} if tool.uses_max is None else {"max_uses": tool.uses_max}
    return {"type": _VENDOR_TYPES[tool.kind], "name": tool.kind.value, **limit}


def _choice(choice: ToolChoice, *, thinks: bool) -> Mapping[str, object]:
    """Return tool_choice. The vendor does not allow a forced call while the model thinks."""
    if choice.mode is ToolChoiceMode.NONE:
        return {"type": "none"}
    if choice.mode is ToolChoiceMode.AUTO or thinks:
        return {"type": "auto"}
    return {"type": "tool", "name": choice.name} if choice.name else {"type": "any"}


_VENDOR_TYPES = {VendorToolKind.WEB_SEARCH: "web_search_20250305"}


ANSWER_BODY_BYTES_MAX = 32 * 1024 * 1024
"""Limit for an answer that is not streamed; a longer one counts as cut off."""

_NO_ARGUMENTS = '{"type":"object","properties":{}}'


class _Answer:
    """The body of an answer: takes chunks, returns parts."""

    def __init__(self, decoder: AnswerDecoder) -> None:
        self._decoder = decoder
        self._splitter = EventSplitter()
        self._has_begun = False
        #: What a gateway that does not stream has sent so far.
        self._whole: bytearray | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the terminal event has arrived."""
        return self._decoder.is_complete

    def feed(self, chunk: bytes) -> Iterable[AnswerPart]:
        """Return the parts that this chunk completes. Raises ModelFailure, EventTooLarge."""
        if not self._has_begun:
            self._begin(chunk)
        if self._whole is not None:
            self._whole += chunk
            if len(self._whole) > ANSWER_BODY_BYTES_MAX:
                raise errors.DIALECT.cut()
            return ()
        events = self._splitter.feed(chunk)
        if len(events) == 1:  # the most common case: avoid a generator
            return self._decoder.feed(events[0])
        return chain.from_iterable(map(self._decoder.feed, events))

    def end(self) -> Iterator[AnswerPart]:
        """Yield the rest of the body. Raises ModelFailure if the answer is incomplete."""
        if self._whole is not None:
            yield from self._decoder.feed_whole(bytes(self._whole))
        elif (last := self._splitter.flush()) is not None:
            yield from self._decoder.feed(last)
        if not self.is_complete:
            raise errors.DIALECT.cut()

    def _begin(self, chunk: bytes) -> None:
        """Detect a body that is not streamed: it starts with a brace; headers are not reliable."""
        if text := chunk.lstrip():
            self._has_begun = True
            if text.startswith(b"{"):
                self._whole = bytearray()
