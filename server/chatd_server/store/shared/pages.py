"""Pages of the lists, the history and the log: their filters, keys and ends."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from chatd_server.domain.chat import Status
from chatd_server.domain.ids import ChatId, Instant
from chatd_server.domain.refusal import CursorAhead, CursorExpired
from chatd_server.store.shared.codec import encode_label

BIGINT_MAX = (1 << 63) - 1
BIGINT_MIN = -(1 << 63)

_R = TypeVar("_R", bound=Sequence[Any])


class ChatFilter(msgspec.Struct, frozen=True):
    """Which chats of an owner, newest first: root chats, or the children of one."""

    after_key: str | None
    include_archived: bool
    labels: Mapping[str, str]
    statuses: Sequence[Status]
    parent_id: ChatId | None = None

    @property
    def below(self) -> int:
        """The row id that the page ends before."""
        return BIGINT_MAX if self.after_key is None else int(self.after_key)

    @property
    def wanted_labels(self) -> list[bytes]:
        """The labels as they stand in `chats.labels`."""
        return [encode_label(name, value) for name, value in self.labels.items()]

    @property
    def wanted_statuses(self) -> list[str]:
        """The values of `chats.status`; empty: all."""
        return [status.value for status in self.statuses]


def chat_key(row_id: int) -> str:
    """Return the key of the page after a chat."""
    return str(row_id)


def action_key(due_at: Instant, row_id: int) -> str:
    """Return the key of the page after a chat that waits for the client."""
    return f"{due_at}.{row_id}"


def after_action(key: str | None) -> tuple[Instant, int]:
    """Return (due_at, row id) of the last chat of the page before."""
    if key is None:
        return BIGINT_MIN, 0
    due_at, _, row_id = key.partition(".")
    return int(due_at), int(row_id)


def check_cursor(after: int, oldest: int, head: int) -> None:
    """Check that the log still has, or will have, what follows a sequence; raises CursorAhead,
    CursorExpired.
    """
    if after > head:
        raise CursorAhead(f"the cursor is at {after}, and the log ends at {head}", oldest, head)
    if after < oldest - 1:
        raise expired(after, oldest, head)


def expired(after: int, oldest: int, head: int) -> CursorExpired:
    """Return the error for a cursor whose next event was pruned."""
    return CursorExpired(
        f"the cursor is at {after}, and the log begins at {oldest}: subscribe without a"
        " cursor to start from a snapshot",
        oldest,
        head,
    )


def first_page(
    rows: Iterable[_R], weight: Callable[[_R], int], bytes_max: int, limit: int | None = None
) -> tuple[list[_R], bool]:
    """Return the rows of one page, and whether one is left: at most `limit` with at most
    `bytes_max`, or the first row alone.
    """
    page: list[_R] = []
    size = 0
    for row in rows:
        size += weight(row)
        if page and (size > bytes_max or len(page) == limit):
            return page, True
        page.append(row)
    return page, False
