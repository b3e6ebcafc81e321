"""The table of RPCs: which are implemented, who may call them, what checks them.

It is built by walking the descriptors, so that every RPC of the contract has a row.
"""

from collections.abc import Mapping, Sequence

import msgspec
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from chatd.v1 import admin_service_pb2, chat_service_pb2
from chatd_server.rpc.calls import ServiceCalls
from chatd_server.rpc.edge.dispatch import Check, Prepare, Rpc, Streaming, Unary

SERVICES = (
    chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"],
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
"""Every service of the contract."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """How one RPC is answered."""

    unary: Unary | None = None
    stream: Streaming | None = None
    prepare: Prepare | None = None
    check: Check | None = None
    needs_key: bool = True
    is_about_a_chat: bool = True
    waits: bool = False


def answers(calls: ServiceCalls, subscribe: Streaming) -> Mapping[str, Answer]:
    """Return the implemented RPCs. One that is not named here answers NOT_IMPLEMENTED."""
    return {
        "CreateChat": Answer(
            unary=calls.create_chat,
            prepare=calls.prepare_create,
            check=calls.check_create,
            is_about_a_chat=False,
        ),
        "GetChat": Answer(unary=calls.get_chat),
        "ListChats": Answer(unary=calls.list_chats, is_about_a_chat=False),
        "SendMessage": Answer(unary=calls.send_message, check=calls.check_send),
        "ListMessages": Answer(unary=calls.list_messages),
        "InterruptChat": Answer(unary=calls.interrupt_chat),
        "SubmitToolResults": Answer(unary=calls.submit_tool_results),
        "ListPendingActions": Answer(unary=calls.list_pending_actions, is_about_a_chat=False),
        "Subscribe": Answer(stream=subscribe),
        "ListEvents": Answer(unary=calls.list_events, waits=True),
        "GetServerInfo": Answer(
            unary=calls.get_server_info, needs_key=False, is_about_a_chat=False
        ),
    }


def table(implemented: Mapping[str, Answer]) -> Sequence[Rpc]:
    """Return one row for every RPC of the contract."""
    methods = [method for service in SERVICES for method in service.methods]
    unknown = set(implemented) - {method.name for method in methods}
    assert not unknown, f"answers to RPCs that the contract does not have: {unknown}"
    return [_row(method, implemented.get(method.name, Answer())) for method in methods]


def _row(method: MethodDescriptor, answer: Answer) -> Rpc:
    return Rpc(
        name=f"{method.containing_service.full_name}/{method.name}",
        request_type=GetMessageClass(method.input_type),
        is_streaming=method.server_streaming,
        unary=answer.unary,
        stream=answer.stream,
        prepare=answer.prepare,
        check=answer.check,
        needs_key=answer.needs_key,
        is_about_a_chat=answer.is_about_a_chat,
        waits=answer.waits,
    )
