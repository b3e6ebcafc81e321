"""Rules about requests that the contract's annotations cannot express."""

import asyncio
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import msgspec

from chatd_server.domain.chat import ChatConfig, TurnOptions
from chatd_server.domain.json_text import json_fault, parse
from chatd_server.domain.limits import CLIENT_TOOLS_BYTES_MAX, USER_MESSAGE_BYTES_MAX
from chatd_server.domain.message import File, FileReference, Part, Text
from chatd_server.domain.refusal import ModelNotFound, NotImplementedHere, Violation
from chatd_server.ports.models import Models

MODEL_EXAMPLES_MAX = 20
"""Names of models that a refusal lists."""


SCHEMAS_KNOWN_MAX = 4096
"""Results of checked schemas that are kept; about 1 MB."""

SCHEMAS_INLINE_CHARACTERS_MAX = 128
"""Up to this length a check takes some milliseconds at most: the worst schema (many empty ones in
`allOf`) takes 0.1 ms for each character."""


class UnknownModel(Violation, frozen=True):
    """A violation with a reason of its own: no model has this name. `models` are examples."""

    models: tuple[str, ...] = ()


class Checks:
    """The rules, with the models and tools that they need."""

    def __init__(
        self, models: Models, built_in: Callable[[str], Collection[str]], default_model: str
    ) -> None:
        self._models = models
        #: Names of the built-in tools that a model is offered.
        self._built_in = built_in
        self.default_model = default_model
        #: What is wrong with a schema, by its hash; empty when nothing is.
        self._faults: dict[bytes, str] = {}
        #: Whether a schema was checked in a thread, so that the library is loaded.
        self._is_warm = False

    async def learn(self, schemas: Iterable[str]) -> None:
        """Check new schemas in a thread: a check takes 9 us for each byte and more.

        Clients make many chats with the same tools, so the results are kept.
        """
        asked = {it for it in schemas if it}
        # In a loop: another caller may clear the results while this one waits for its thread.
        while new := {it for it in asked if _digest(it) not in self._faults}:
            if len(self._faults) + len(new) > SCHEMAS_KNOWN_MAX:
                self._faults.clear()
            if self._is_warm and sum(map(len, new)) <= SCHEMAS_INLINE_CHARACTERS_MAX:
                found = _faults(new)
            else:
                found = await asyncio.to_thread(_faults, new)
                self._is_warm = True
            self._faults.update(found)

    def new_chat(self, config: ChatConfig) -> Iterator[Violation]:
        """Yield what is wrong with the fields of a new chat. An empty model is the default."""
        yield from self._model("model", config.model)
        yield from self._client_tools(config)

    def message(self, field: str, parts: Sequence[Part]) -> Iterator[Violation]:
        """Yield what is wrong with a user's message. Raises NotImplementedHere for files."""
        if any(isinstance(part, File) for part in parts):
            raise NotImplementedHere(
                "file parts are not implemented by this server yet; send the content of the file "
                "as a text part"
            )
        size = sum(_inline_bytes(part) for part in parts)
        if size > USER_MESSAGE_BYTES_MAX:
            yield Violation(
                f"{field}.parts",
                f"the parts have {size} bytes together, and at most {USER_MESSAGE_BYTES_MAX} are "
                "accepted; split the message",
            )
        # An empty text violates a rule of the contract, which reports it.
        if parts and all(isinstance(it, Text) and it.text.isspace() for it in parts):
            yield Violation(f"{field}.parts", "the message has only white space; write some text")
        for index, part in enumerate(parts):
            if isinstance(part, FileReference):
                yield from _file_reference(f"{field}.parts[{index}].file_reference", part)

    def options(self, field: str, options: TurnOptions) -> Iterator[Violation]:
        """Yield what is wrong with the choices for a turn."""
        if options.model:
            yield from self._model(f"{field}.model", options.model)

    def _model(self, field: str, name: str) -> Iterator[Violation]:
        try:
            self._models.get(name or self.default_model)
        except ModelNotFound as refusal:
            reason = "; ".join(it.description for it in refusal.violations)
            yield UnknownModel(
                field,
                reason or f"no configured model has the name {name!r}",
                models=tuple(self._models.names())[:MODEL_EXAMPLES_MAX],
            )

    def _client_tools(self, config: ChatConfig) -> Iterator[Violation]:
        size = sum(
            len(tool.name) + len(tool.description.encode()) + len(tool.input_schema.encode())
            for tool in config.tools
        )
        if size > CLIENT_TOOLS_BYTES_MAX:
            yield Violation(
                "tools",
                f"they have {size} bytes together, and at most {CLIENT_TOOLS_BYTES_MAX} are "
                "accepted; shorten descriptions and schemas, or send fewer tools",
            )
            return
        built_in = self._built_in(config.model or self.default_model)
        for index, tool in enumerate(config.tools):
            if tool.name in built_in:
                yield Violation(
                    f"tools[{index}].name",
                    f"{tool.name!r} is a built-in tool of this server; choose another name",
                )
            fault = self._schema_fault(tool.input_schema)
            if fault:
                yield Violation(f"tools[{index}].input_schema_json", fault)

    def _schema_fault(self, schema: str) -> str:
        known = self._faults.get(_digest(schema))
        return schema_fault(schema) if known is None else known


def _faults(schemas: Iterable[str]) -> dict[bytes, str]:
    return {_digest(it): schema_fault(it) for it in schemas}


def _inline_bytes(part: Part) -> int:
    match part:
        case Text():
            return len(part.text.encode())
        case FileReference():
            return len(part.content.encode()) + len(part.file_name.encode())
        case _:
            return len(msgspec.json.encode(part))


def _file_reference(field: str, part: FileReference) -> Iterator[Violation]:
    if not part.file_name:
        yield Violation(f"{field}.file_name", "must not be empty")
    if part.start_line < 0 or part.end_line < 0:
        yield Violation(f"{field}.start_line", "lines count from 1; 0 means the whole file")
    elif 0 < part.end_line < part.start_line:
        yield Violation(f"{field}.end_line", "must not be before start_line")


def schema_fault(text: str) -> str:
    """Return what is wrong with the schema of a tool; empty when nothing is.

    No schema means no arguments. References are not followed, so nothing is fetched.
    """
    if not text:
        return ""
    import jsonschema  # noqa: PLC0415  many servers never see a schema, and it takes 70 ms

    wrong = json_fault(text)
    if wrong:
        return wrong
    schema = parse(text)
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return 'must be a JSON Schema of an object: {"type": "object", ...}'
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        place = "/".join(map(str, error.absolute_path)) or "the root"
        return f"not a valid JSON Schema, at {place}: {error.message[:200]}"
    except RecursionError:
        return "the schema is nested too deeply; make it flatter"
    return ""


def _digest(schema: str) -> bytes:
    return hashlib.blake2b(schema.encode(), digest_size=16).digest()
