"""HTTP/2 by hand: frames and disconnects that no client library produces."""

import socket
import struct
from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + stream.to_bytes(4) + payload


def grpc_message(body: bytes) -> bytes:
    """Return a message with gRPC's framing."""
    return b"\x00" + struct.pack(">I", len(body)) + body


def data(stream: int, payload: bytes, *, end: bool = True) -> bytes:
    """Return a part of a request."""
    return frame(DATA, END_STREAM if end else 0, stream, payload)


def reset(stream: int) -> bytes:
    """Return the frame that cancels a call."""
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


class RawConnection:
    """A connection that sends the given frames and does not read on its own."""

    def __init__(self, address: str, *, window: int | None = None) -> None:
        """Connect. `window` is how many bytes of each response the server may send."""
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._next = 1
        settings = b"" if window is None else struct.pack(">HI", INITIAL_WINDOW_SIZE, window)
        self._socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, sent: bytes) -> None:
        """Send frames."""
        self._socket.sendall(sent)

    def headers(
        self,
        path: bytes,
        key: str = "",
        *,
        end: bool = False,
        more: Iterable[tuple[bytes, bytes]] = (),
    ) -> tuple[int, bytes]:
        """Return the stream id of a new call, and the frame that opens it."""
        number, self._next = self._next, self._next + 2
        fields = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        ]
        if key:
            fields.append((b"authorization", b"Bearer " + key.encode()))
        fields += more
        flags = END_HEADERS | (END_STREAM if end else 0)
        return number, frame(HEADERS, flags, number, _fields(fields))

    def call(self, path: bytes, body: bytes, key: str = "") -> int:
        """Send a whole call; return its stream id."""
        number, opening = self.headers(path, key)
        self.send(opening + data(number, grpc_message(body)))
        return number

    def receive(self) -> bytes:
        """Return what the server has sent; wait until there is something."""
        return self._socket.recv(65_536)

    def leave(self) -> None:
        """Close the connection cleanly."""
        self._socket.close()

    def break_off(self) -> None:
        """Reset the connection without any notice."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def _fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode headers as literals without an index and without Huffman."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields)


def _text(text: bytes) -> bytes:
    if len(text) < 127:
        return bytes((len(text),)) + text
    encoded, rest = bytearray((127,)), len(text) - 127
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    return bytes(encoded) + bytes((rest,)) + text
