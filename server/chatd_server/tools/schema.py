"""Turns a function's signature into the arguments of a tool: makes their JSON Schema and parses
them.

Supported are str, int, float, bool, list, dict, Literal, Optional and unions of these, defaults,
and Annotated with a description (a str) or a msgspec.Meta (bounds, patterns). A parameter of
type ToolContext is not an argument: the service fills it in.
"""

import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from chatd_server.ports.tools import ToolContext

Json: TypeAlias = dict[str, Any]


class Argument(msgspec.Struct, frozen=True):
    """One argument. `default` is msgspec.NODEFAULT for a required one."""

    name: str
    type: Any
    default: Any

    @property
    def is_required(self) -> bool:
        return self.default is msgspec.NODEFAULT


class InvalidArguments(Exception):
    """The model's arguments are not valid; `problems` has one line per problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Arguments:
    """The arguments of one function. Raises TypeError for an unsupported signature."""

    def __init__(self, function: Callable[..., object]) -> None:
        hints = get_type_hints(function, include_extras=True)
        self.context_name: str | None = None
        self._arguments: dict[str, Argument] = {}
        for parameter in inspect.signature(function).parameters.values():
            name = parameter.name
            if name not in hints or parameter.kind not in _BY_NAME:
                raise TypeError(f"{name} needs a type hint and must accept a keyword")
            if hints[name] is ToolContext:
                self.context_name = name
                continue
            default = parameter.default
            self._arguments[name] = Argument(
                name,
                _understood(name, hints[name]),
                msgspec.NODEFAULT if default is inspect.Parameter.empty else default,
            )

    def schema(self) -> str:
        """Return the JSON Schema as text; it is always the same text."""
        schema: Json = {
            "type": "object",
            "properties": {name: _schema(argument) for name, argument in self._arguments.items()},
            "required": [a.name for a in self._arguments.values() if a.is_required],
            "additionalProperties": False,
        }
        return msgspec.json.encode(schema).decode()

    def read(self, arguments: str) -> Json:
        """Return the given values by name, without defaults. Raises InvalidArguments with all
        problems at once.
        """
        given = _object(arguments)
        problems: list[str] = []
        values: Json = {}
        for name, argument in self._arguments.items():
            if name not in given:
                if argument.is_required:
                    problems.append(f"{name}: is missing")
                continue
            try:
                values[name] = msgspec.convert(given[name], argument.type)
            except msgspec.ValidationError as error:
                problems.append(_located(name, str(error)))
        known = ", ".join(self._arguments) or "no arguments"
        problems += [
            f"{name[:64]}: there is no such argument; the tool takes {known}"
            for name in given
            if name not in self._arguments
        ]
        if problems:
            raise InvalidArguments(problems)
        return values


_BY_NAME = frozenset({inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})
_PLAIN = frozenset({str, int, float, bool, types.NoneType, Any})


def _understood(name: str, hint: Any) -> Any:
    """Return the hint with its descriptions as msgspec.Meta."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        extras = [msgspec.Meta(description=e) if isinstance(e, str) else e for e in inner[1:]]
        return Annotated[(_understood(name, inner[0]), *extras)]
    if origin in {list, dict, Union, types.UnionType}:
        for each in inner:
            _understood(name, each)
        return hint
    if hint in _PLAIN or hint in {list, dict} or origin is Literal:
        return hint
    raise TypeError(f"{name}: {hint} is not supported as a tool argument")


def _schema(argument: Argument) -> Json:
    schema = msgspec.json.schema(argument.type)
    return schema if argument.is_required else {**schema, "default": argument.default}


def _object(arguments: str) -> Json:
    """Parse the model's JSON object; empty text means no arguments."""
    if not arguments.strip():
        return {}
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except RecursionError as error:
        raise InvalidArguments(["the arguments are nested too deeply"]) from error
    except msgspec.ValidationError as error:
        # For example, an array, or a number out of range.
        raise InvalidArguments([f"the arguments cannot be read: {error}"]) from error
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InvalidArguments([f"the arguments are not valid JSON: {error}"]) from error


def _located(name: str, message: str) -> str:
    """Name the argument as the user writes it: `$[0]` of "names" becomes `names[0]`."""
    words, _, path = message.partition(" - at `$")
    return f"{name}{path.rstrip('`')}: {words}"
