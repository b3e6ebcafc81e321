"""The table of RPCs: which are implemented, who may call them, what checks them.

Rows come from the descriptors of the services, so every RPC of the contract has one. A port has
its own table: the services of that port, and the groups that answer them.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import msgspec
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from chatd_server.domain.refusal import Violation
from chatd_server.ports.store import RequestKey
from chatd_server.rpc.edge.auth import Caller, Scope

Context: TypeAlias = "grpc.aio.ServicerContext[bytes, bytes]"

# The first argument of each is what the handlers of a port stand on; see `rpc.backend`.
Unary: TypeAlias = Callable[[Any, "Call", Any], Awaitable[Message]]
Streaming: TypeAlias = Callable[[Any, "Call", Any, Context], Awaitable[None]]
Prepare: TypeAlias = Callable[[Any, Any], Awaitable[None]]
Check: TypeAlias = Callable[[Any, Any], Iterator[Violation]]


class Call(msgspec.Struct, frozen=True):
    """One request that is being answered."""

    name: str
    caller: Caller

    def request_key(self, request: Any) -> RequestKey | None:
        """Return the key under which the response is stored; None without a request id."""
        if not request.request_id:
            return None
        # The same UUID, however it is written.
        request.request_id = request.request_id.lower()
        body = request.SerializeToString(deterministic=True)
        return RequestKey(
            key=f"{self.caller.owner_id}/{self.name}/{request.request_id}",
            body_hash=hashlib.blake2b(body, digest_size=16).digest(),
        )


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How one RPC is answered. Without `unary` and `stream` it is not implemented."""

    unary: Unary | None = None
    stream: Streaming | None = None
    #: What has to be known before `check`, which does not wait.
    prepare: Prepare | None = None
    #: Rules beyond the contract's annotations; may raise NotImplementedHere.
    check: Check | None = None
    #: The scope that a caller needs; None: no key is needed.
    scope: Scope | None = Scope.CHATS
    #: Whether `chat_id` names a chat that the caller must own.
    is_about_a_chat: bool = True
    #: Whether it may wait long: the caller's key is checked again before the response is sent.
    waits: bool = False


Answers: TypeAlias = Mapping[str, Answer]
"""A group of RPCs, by the names of the contract without their service."""


class Rpc(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table."""

    #: "chatd.v1.ChatService/GetChat".
    name: str
    request_type: type[Message]
    is_streaming: bool = False
    answer: Answer

    @property
    def is_implemented(self) -> bool:
        """Whether a handler answers it."""
        return self.answer.unary is not None or self.answer.stream is not None

    def handle(self, backend: object, call: Call, request: Any) -> Awaitable[Message]:
        """Answer a request that was admitted."""
        assert self.answer.unary is not None
        return self.answer.unary(backend, call, request)

    def handle_stream(
        self, backend: object, call: Call, request: Any, context: Context
    ) -> Awaitable[None]:
        """Answer a request that was admitted with a stream."""
        assert self.answer.stream is not None
        return self.answer.stream(backend, call, request, context)


def table(services: Iterable[ServiceDescriptor], groups: Iterable[Answers]) -> Sequence[Rpc]:
    """Return one row for every RPC of the services."""
    answers: dict[str, Answer] = {}
    for group in groups:
        twice = answers.keys() & group.keys()
        assert not twice, f"two groups answer {twice}"
        answers.update(group)
    methods = [method for service in services for method in service.methods]
    unknown = answers.keys() - {method.name for method in methods}
    assert not unknown, f"answers to RPCs that the services do not have: {unknown}"
    return [_row(method, answers.get(method.name, Answer())) for method in methods]


def implemented(rpcs: Iterable[Rpc]) -> Sequence[str]:
    """Return the full names of the RPCs that have a handler."""
    return [rpc.name for rpc in rpcs if rpc.is_implemented]


def service_names(rpcs: Iterable[Rpc]) -> Sequence[str]:
    """Return the full names of the services."""
    return list(dict.fromkeys(rpc.name.partition("/")[0] for rpc in rpcs))


def _row(method: MethodDescriptor, answer: Answer) -> Rpc:
    return Rpc(
        name=f"{method.containing_service.full_name}/{method.name}",
        request_type=GetMessageClass(method.input_type),
        is_streaming=method.server_streaming,
        answer=answer,
    )
