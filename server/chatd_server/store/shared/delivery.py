"""After the commit: tell this process's listeners, then hint to the workers."""

import asyncio

from chatd_server.ports.store import Applied, CommitListener
from chatd_server.ports.wake import Wake


class Delivery:
    """Tells of commits, on the event loop. The caller keeps the order of each chat's commits."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._listeners: list[CommitListener] = []

    def listen(self, listener: CommitListener) -> None:
        """Tell a listener of every commit from now on, before its caller learns of it."""
        self._listeners.append(listener)

    def tell(self, applied: Applied) -> None:
        """Tell of one commit. A listener that raises must not lose the answers of others: its
        error goes to the loop's handler.
        """
        state = applied.state
        try:
            for listener in self._listeners:
                listener.committed(applied)
            self._wake.hint(state.id, state.revision, state.status)
        except Exception as defect:  # noqa: BLE001  reported, not raised
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a commit listener raised", "exception": defect}
            )
