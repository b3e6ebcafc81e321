"""What happens to every request, in this order: decode, authenticate, authorise, validate, call.

Nothing here knows a single RPC: the table has them (`edge.table`).
"""

import asyncio
import secrets
import traceback
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import grpc

from chatd_server.collector import let_go
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.limits import LIST_ITEMS_MAX
from chatd_server.domain.refusal import NotImplementedHere, PermissionDenied, Refused
from chatd_server.observe import Observer, spans
from chatd_server.ports.store import Store
from chatd_server.rpc.edge import errors
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.auth import Authenticator, Caller
from chatd_server.rpc.edge.grpc_server import Handler
from chatd_server.rpc.edge.table import Call, Context, Rpc
from chatd_server.rpc.edge.validate import Rules, refusal_of, too_long
from chatd_server.rpc.edge.wire import decoded
from chatd_server.service.authority import authorise

GONE = (asyncio.CancelledError, grpc.aio.BaseError)
"""How grpc says that a call is over: the client left, or its request was late."""

ANONYMOUS = Caller(owner_id=OwnerId(""), key_id="", scopes=frozenset())
"""The caller of an RPC that needs no key."""


class Dispatch:
    """Answers every RPC of a table. Handlers get `backend` as their first argument."""

    def __init__(
        self,
        rpcs: Sequence[Rpc],
        backend: object,
        store: Store,
        authenticator: Authenticator,
        arrivals: Arrivals,
        observer: Observer,
    ) -> None:
        self._backend = backend
        self._store = store
        self._authenticator = authenticator
        self._arrivals = arrivals
        self._observer = observer
        self._rules = Rules(rpc.request_type for rpc in rpcs)
        self.handlers: Mapping[str, Handler] = {rpc.name: self._handler(rpc) for rpc in rpcs}

    def _handler(self, rpc: Rpc) -> Handler:
        """Return a handler of bytes, so that grpc decodes nothing. It reads the request by itself,
        so that the request has a deadline.
        """
        if rpc.is_streaming:  # each token passes here: a partial adds no coroutine
            return grpc.stream_stream_rpc_method_handler(partial(self._answer_stream, rpc))

        # Each request passes here once: grpc inspects a plain function faster than a partial.
        async def unary(_requests: object, context: Context) -> bytes:
            return await self._answer(rpc, context)

        return grpc.stream_unary_rpc_method_handler(unary)

    # When a call is refused, the exception is released before the call is aborted, and no frame
    # here has a name for the request. grpc keeps the abort, its traceback and so these frames
    # until the cyclic collector runs, and code that awaits a future may keep its exception. A
    # request is as large as its client wants.

    async def _answer(self, rpc: Rpc, context: Context) -> bytes:
        try:
            response = await rpc.handle(self._backend, *await self._admit(rpc, context))
            if rpc.answer.waits:
                await self._authenticator.still(context.invocation_metadata() or ())
            answer = response.SerializeToString()
        except GONE:
            self._observer.note(spans.RpcFinished(rpc=rpc.name, code="CANCELLED"))
            raise
        except Exception as error:  # noqa: BLE001  the border: each one becomes a status
            failure = self._failure(rpc, error)
            let_go(error)
        else:
            self._observer.note(spans.RpcFinished(rpc=rpc.name, code="OK"))
            return answer
        return await errors.abort(context, failure)

    async def _answer_stream(self, rpc: Rpc, _requests: object, context: Context) -> None:
        try:
            await rpc.handle_stream(self._backend, *await self._admit(rpc, context), context)
        except GONE:
            self._observer.note(spans.RpcFinished(rpc=rpc.name, code="CANCELLED"))
            raise
        except Exception as error:  # noqa: BLE001  the border: each one becomes a status
            failure = self._failure(rpc, error)
            let_go(error)
        else:
            self._observer.note(spans.RpcFinished(rpc=rpc.name, code="OK"))
            return
        await errors.abort(context, failure)

    async def _admit(self, rpc: Rpc, context: Context) -> tuple[Call, Any]:
        """Return a request that may be answered; raises the first reason to refuse it."""
        raw = await self._arrivals.request(context)
        request: Any = decoded(rpc.request_type, raw)
        caller = await self._caller(rpc, context)
        if not rpc.is_implemented:
            raise NotImplementedHere(f"{rpc.name} is not implemented by this server yet")
        # An item takes at least a byte, so most requests cannot have too many.
        refusal = too_long(request) if len(raw) > LIST_ITEMS_MAX else None
        if refusal is None:
            if rpc.answer.prepare is not None:
                await rpc.answer.prepare(self._backend, request)
            refusal = self._against(rpc, request)
        if refusal is not None:
            chat_id: str = getattr(request, "chat_id", "")
            if rpc.answer.is_about_a_chat or chat_id:
                await authorise(self._store, caller.owner_id, chat_id)
            raise refusal
        return Call(name=rpc.name, caller=caller), request

    async def _caller(self, rpc: Rpc, context: Context) -> Caller:
        """Return the caller; raises Unauthenticated, PermissionDenied, DatabaseUnavailable."""
        scope = rpc.answer.scope
        if scope is None:
            return ANONYMOUS
        caller = await self._authenticator.caller(context.invocation_metadata() or ())
        if scope not in caller.scopes:
            raise PermissionDenied(
                f"{rpc.name} needs a key with the scope {scope}; use another key"
            )
        return caller

    def _against(self, rpc: Rpc, request: Any) -> Refused | None:
        """Return the refusal of a request with all its violations; None when it has none."""
        try:
            violations = list(self._rules.violations(request))
            if rpc.answer.check is not None:
                violations.extend(rpc.answer.check(self._backend, request))
        except NotImplementedHere as refusal:
            return refusal
        return refusal_of(violations) if violations else None

    def _failure(self, rpc: Rpc, error: Exception) -> errors.Failure:
        """Return the failure that the caller gets, and note it."""
        failure = errors.failure_of(error)
        if failure is not None:
            self._observer.note(
                spans.RpcFinished(
                    rpc=rpc.name, code=failure.code.name, reason=getattr(error, "reason", "")
                )
            )
            return failure
        error_id = secrets.token_hex(8)
        self._observer.note(
            spans.RpcFailed(
                rpc=rpc.name,
                error_id=error_id,
                error=repr(error),
                trace="".join(traceback.format_tb(error.__traceback__)),
            )
        )
        return errors.internal_failure(error_id)
