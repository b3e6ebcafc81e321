"""Client tools, and what a chat waits for."""

from collections.abc import Sequence

from chatd.v1 import tool_pb2
from chatd_server.domain.chat import ChatState, ClientTool, OpenCall
from chatd_server.domain.message import Executor
from chatd_server.rpc.convert.times import timestamp


def tool_definitions(tools: Sequence[ClientTool]) -> list[tool_pb2.ToolDefinition]:
    return [
        tool_pb2.ToolDefinition(
            name=it.name, description=it.description, input_schema_json=it.input_schema
        )
        for it in tools
    ]


def _pending_call(it: OpenCall) -> tool_pb2.PendingToolCall:
    return tool_pb2.PendingToolCall(
        tool_call_id=it.id,
        tool_name=it.name,
        arguments_json=it.arguments,
        create_time=timestamp(it.created_at),
        answered=it.outcome is not None,
    )


def pending_action(state: ChatState) -> tool_pb2.PendingAction | None:
    """Return what a chat waits for, including calls that already have their result; None unless it
    is in `requires_action`.
    """
    return _action(state, [it for it in state.calls if it.executor is Executor.CLIENT])


def wanted_action(state: ChatState) -> tool_pb2.PendingAction | None:
    """Return what a chat still waits for; None unless it is in `requires_action`."""
    return _action(state, [it for it in state.calls if it.is_wanted])


def _action(state: ChatState, calls: Sequence[OpenCall]) -> tool_pb2.PendingAction | None:
    if state.action is None:
        return None
    return tool_pb2.PendingAction(
        chat_id=state.id,
        turn_id=state.action.turn_id,
        tool_calls=[_pending_call(it) for it in calls],
        deadline=timestamp(state.action.deadline),
        sequence=state.action.sequence,
    )
