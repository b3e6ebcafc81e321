"""The rules that stand in the contract itself, all violations at once."""

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import Message
from protovalidate import Validator

from chatd_server.domain.refusal import InvalidRequest, ModelNotFound, Violation
from chatd_server.rpc.well_known import malformed
from chatd_server.service.checks import UnknownModel


class Rules:
    """The compiled rules; made once, because each message's rules are compiled when first met."""

    def __init__(self) -> None:
        self._validator = Validator()

    def violations(self, request: Message) -> Iterator[Violation]:
        """Yield what the annotations of the contract say against a request, and spans that
        protobuf does not know: for these the annotations have no meaning.
        """
        odd = list(malformed(request))
        yield from odd
        fields = {it.field for it in odd}
        for it in self._validator.collect_violations(request):
            field = _path(it.proto.field.elements if it.proto.field else ())
            if field not in fields:
                yield Violation(field, it.proto.message)


def refusal_of(violations: list[Violation], model_examples: Iterable[str]) -> InvalidRequest:
    """Return the refusal that tells all violations; an unknown model alone has its own reason."""
    if all(isinstance(it, UnknownModel) for it in violations):
        return ModelNotFound(*violations, models=tuple(model_examples))
    return InvalidRequest(*violations)


def _path(elements: Iterable[Any]) -> str:
    """Return a field's place as people write it: `message.parts[0].text.text`."""
    path = ""
    for element in elements:
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            path += f"[{value}]" if isinstance(value, int) else f'["{value}"]'
    return path
