"""Why a command or a question is refused: one small tree of typed errors.

    Refused                      the caller can mend it
    ├── NotFound                 ChatNotFound, MessageNotFound
    │   └── HistoryChanged       of MessageNotFound: look again
    ├── InvalidRequest           all violations at once
    │   ├── ToolResultsMismatch
    │   ├── ModelNotFound
    │   └── FamilyTooDeep
    ├── WrongStatus              the chat's state forbids it
    │   ├── ChatBusy, ChatArchived, NotWaitingForAction, NothingToCompact, NothingToTitle,
    │   │   TitleFailed, QueueFull
    ├── EtagMismatch
    ├── RequestIdReused
    ├── CursorExpired, CursorAhead
    ├── Unauthenticated, PermissionDenied
    ├── TooManyStreams
    └── NotImplementedHere       a later version's feature
    Unavailable                  the server recovers by itself: try again
    ├── Draining
    └── DatabaseUnavailable
    LeaseLost                    another worker owns the chat now; nothing was written

`reason` is the stable name that clients see (`chatd.v1.ErrorReason`).
"""

import msgspec

from chatd_server.domain.chat import Status
from chatd_server.domain.command import Command


class Violation(msgspec.Struct, frozen=True):
    """One broken rule: which field, what is wrong, and what to do."""

    #: A path in the command, or, before there is one, in the request.
    field: str
    description: str


class Refused(Exception):
    """The caller asked for something that is not possible. Nothing was written."""

    reason = "INVALID_FIELD"
    #: Which command it was, when a chain of them was refused.
    command: Command | None = None

    @property
    def metadata(self) -> dict[str, str]:
        """Facts for programs."""
        return {}


class NotFound(Refused):
    """It does not exist, or another owner has it."""

    resource_type = ""

    def __init__(self, resource_id: str) -> None:
        super().__init__(f"no {self.resource_type} {resource_id[:64]!r}")
        self.resource_id = resource_id


class ChatNotFound(NotFound):
    """No chat with this id belongs to the caller."""

    reason = "CHAT_NOT_FOUND"
    resource_type = "chat"


class MessageNotFound(NotFound):
    """No message with this id is in the chat."""

    reason = "MESSAGE_NOT_FOUND"
    resource_type = "message"


class HistoryChanged(MessageNotFound):
    """An edit has removed messages since the sender looked this one up; look again."""


class InvalidRequest(Refused):
    """One or more fields break a rule."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}".lstrip(": ") for v in violations))
        self.violations = violations


class ToolResultsMismatch(InvalidRequest):
    """The results do not match the pending calls exactly."""

    reason = "TOOL_RESULTS_MISMATCH"


class ModelNotFound(InvalidRequest):
    """No configured model has this name; `models` are examples of names that exist."""

    reason = "MODEL_NOT_FOUND"

    def __init__(self, *violations: Violation, models: tuple[str, ...] = ()) -> None:
        super().__init__(*violations)
        self.models = models

    @property
    def metadata(self) -> dict[str, str]:
        """Names of some models that exist."""
        return {"models": ", ".join(self.models)} if self.models else {}


class FamilyTooDeep(InvalidRequest):
    """The parent of a new chat is a child itself."""

    reason = "FAMILY_TOO_DEEP"


class WrongStatus(Refused):
    """The command is not possible in the chat's status.

    `relative_id` is the chat that stands in the way, when it is another one of the family.
    """

    reason = "WRONG_STATUS"

    def __init__(self, status: Status, message: str, relative_id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.relative_id = relative_id

    @property
    def metadata(self) -> dict[str, str]:
        """The actual status."""
        whose = {"chat_id": self.relative_id} if self.relative_id else {}
        return {"status": self.status.upper(), **whose}


class ChatBusy(WrongStatus):
    reason = "CHAT_BUSY"


class ChatArchived(WrongStatus):
    reason = "CHAT_ARCHIVED"


class NotWaitingForAction(WrongStatus):
    """The chat does not wait for results of client tools."""

    reason = "NOT_WAITING_FOR_ACTION"


class NothingToCompact(WrongStatus):
    """There is nothing that a compaction could shorten."""

    reason = "NOTHING_TO_COMPACT"


class NothingToTitle(WrongStatus):
    """Nothing was said that a title could name."""

    reason = "NOTHING_TO_TITLE"


class TitleFailed(WrongStatus):
    """The model gave no title."""

    reason = "TITLE_FAILED"


class QueueFull(WrongStatus):
    """The queue has as many messages as it may."""

    reason = "QUEUE_FULL"


class EtagMismatch(Refused):
    """The object was changed since the caller read it."""

    reason = "ETAG_MISMATCH"


class RequestIdReused(Refused):
    """The request id was used before with another request."""

    reason = "REQUEST_ID_REUSED"


class _CursorOutOfRange(Refused):
    def __init__(self, message: str, oldest_sequence: int, head_sequence: int) -> None:
        super().__init__(message)
        self.oldest_sequence = oldest_sequence
        self.head_sequence = head_sequence

    @property
    def metadata(self) -> dict[str, str]:
        """What the log has."""
        return {
            "oldest_sequence": str(self.oldest_sequence),
            "head_sequence": str(self.head_sequence),
        }


class CursorExpired(_CursorOutOfRange):
    """The cursor is older than what the log keeps."""

    reason = "CURSOR_EXPIRED"


class CursorAhead(_CursorOutOfRange):
    """The cursor is beyond the head of the log."""

    reason = "CURSOR_AHEAD"


class Unauthenticated(Refused):
    """The request has no key, or an unknown one."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(Refused):
    """The key is known but does not permit this."""

    reason = "PERMISSION_DENIED"


class TooManyStreams(Refused):
    reason = "TOO_MANY_STREAMS"


class NotImplementedHere(Refused):
    """This server knows the RPC or the value but does not implement it."""

    reason = "NOT_IMPLEMENTED"


class Unavailable(Exception):
    """Try again later."""

    reason = "DATABASE_UNAVAILABLE"
    retry_seconds = 1.0


class Draining(Unavailable):
    """The server is shutting down."""

    reason = "DRAINING"


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached or cannot write. Nothing was acknowledged."""


class LeaseLost(Exception):
    """Another worker owns the chat now; nothing was written and the run ends silently."""

    #: Which command it was, when a chain of them was refused.
    command: Command | None = None
