"""A transition in the making: what it keeps of the old state, and what only the row decides."""

from chatd_server.domain.chat import (
    Action,
    ChatConfig,
    ChatState,
    ForkedFrom,
    Lease,
    OpenCall,
    Queued,
    Status,
    StopReason,
    Turn,
)
from chatd_server.domain.context import ContextUse
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import ChatId, MessageId, OwnerId, ToolCallId, TurnId, WorkerId
from chatd_server.domain.machine.change import Change, begin
from chatd_server.domain.message import Executor, Text, Usage

#: No two fields have the same value, so a field in another's place is seen.
FULL = ChatState(
    id=ChatId("chat"),
    owner_id=OwnerId("owner"),
    root_id=ChatId("root"),
    created_at=101,
    updated_at=102,
    parent_id=ChatId("parent"),
    parent_call_id=ToolCallId("parent call"),
    revision=103,
    head_sequence=104,
    oldest_sequence=105,
    next_position=106,
    boundary_position=107,
    status=Status.RUNNING,
    archived=True,
    deleted=True,
    lease=Lease(WorkerId("worker"), 108, 109),
    epoch=110,
    journal=111,
    rescues=112,
    turn=Turn(TurnId("turn"), 113),
    stop_reason=StopReason.COMPACTED,
    last_error=ChatError(ErrorKind.AUTH, "refused"),
    calls=(OpenCall(ToolCallId("call"), "shell", Executor.SERVER, 114),),
    action=Action(TurnId("turn"), 115, 116),
    queue=(Queued(MessageId("queued"), (Text("later"),), 117),),
    context=ContextUse(120),
    usage_total=Usage(input_tokens=118),
    config=ChatConfig(title="title"),
    truncated_at=119,
    forked_from=ForkedFrom(ChatId("other"), MessageId("last")),
)
OWN = {"revision": 104, "updated_at": 119}
"""What each transition changes by itself."""


def fields_of(state: ChatState) -> dict[str, object]:
    return {name: getattr(state, name) for name in ChatState.__struct_fields__}


def test_a_transition_keeps_every_field_that_its_rule_does_not_set() -> None:
    """The state is built by position: each field must come out where it went in."""
    values = fields_of(FULL)
    empty = fields_of(ChatState(ChatId(""), OwnerId(""), ChatId(""), 0, 0))
    assert not {name for name, value in values.items() if value == empty[name]}
    sealed = begin(FULL, 119, Status.RUNNING).seal()
    assert fields_of(sealed.state) == values | OWN
    assert not sealed.events


def test_a_rule_has_no_status_to_write() -> None:
    """No rule writes a status: the row's target is the only one."""
    assert "status" not in Change.__struct_fields__
    assert begin(FULL, 119, Status.WAITING).seal().state.status is Status.WAITING
