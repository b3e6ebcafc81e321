"""How a worker shows an answer in progress."""

from chatd_server.domain.live import PieceKind, PieceValue
from chatd_server.hub.chat import LiveChat
from chatd_server.hub.overlay import Overlay, OverlayStatus


class AttemptOverlayWriter:
    """Writes one attempt; `ports.AttemptWriter`. Does nothing after the attempt is over."""

    __slots__ = ("_chat", "_overlay")

    def __init__(self, overlay: Overlay, chat: LiveChat) -> None:
        self._overlay = overlay
        self._chat = chat

    def add(self, part: int, kind: PieceKind, value: PieceValue) -> None:
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.add(part, kind, value)
            self._chat.wake()

    def add_when_committed(self, part: int, kind: PieceKind, value: PieceValue) -> None:
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.add_when_committed(part, kind, value)

    def append(self, part: int, kind: PieceKind, text: str) -> None:
        if self._overlay.status is OverlayStatus.OPEN:
            self._overlay.append(part, kind, text)
            self._chat.wake()

    def abandon(self) -> None:
        self._chat.void_attempt(self._overlay)
