"""Runs the turn of one acquired chat, and reports every failure."""

import traceback

from chatd_server.agent.turn.env import Env
from chatd_server.agent.turn.held import Held
from chatd_server.agent.turn.loop import run_turn, write_failure
from chatd_server.agent.turn.stop import Stop
from chatd_server.collector import let_go
from chatd_server.domain.failure import ChatError, ErrorKind
from chatd_server.domain.ids import new_uuid
from chatd_server.domain.refusal import DatabaseUnavailable, LeaseLost
from chatd_server.observe import spans
from chatd_server.ports.store import Acquired


async def run_chat(acquired: Acquired, stop: Stop, env: Env) -> None:
    """Run a chat until the lease ends. Raises only a cancellation from outside.

    Without the database nothing can be written, not even an error: the lease expires, and the chat
    is rescued.
    """
    chat_id = acquired.state.id
    env.observer.note(spans.RunStarted(chat=chat_id, epoch=acquired.state.epoch))
    held = await Held.open(acquired, stop, env)
    try:
        await _run(held, env)
    except LeaseLost as lost:
        let_go(lost)
        env.observer.note(spans.LeaseLost(chat=chat_id, epoch=held.epoch))
    except DatabaseUnavailable as error:
        let_go(error)
        env.observer.note(spans.DatabaseFailed(chat=chat_id, doing="run", error=str(error)))
    except Exception as error:  # noqa: BLE001  the failure itself could not be written
        _note_fault(error, held, env)
    env.observer.note(spans.RunFinished(chat=chat_id, epoch=held.epoch, status=held.state.status))


async def _run(held: Held, env: Env) -> None:
    try:
        await run_turn(held, env)
    except (LeaseLost, DatabaseUnavailable):
        raise
    except Exception as fault:  # noqa: BLE001  an internal error ends this turn, not the worker
        error_id = _note_fault(fault, held, env)
        error = ChatError(
            kind=ErrorKind.INTERNAL,
            message=f"The server failed. Ask the operator: the log explains {error_id}.",
        )
        await write_failure(error, held, env)


def _note_fault(fault: Exception, held: Held, env: Env) -> str:
    """Log where it was raised, without its message, which may hold text of a conversation."""
    error_id = new_uuid(env.clock.now())
    frames = traceback.extract_tb(fault.__traceback__)
    let_go(fault)
    env.observer.note(
        spans.RunFailed(
            chat=held.id,
            epoch=held.epoch,
            error_id=error_id,
            exception=type(fault).__name__,
            trace=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        )
    )
    return error_id
