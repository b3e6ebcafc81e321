"""grpc.reflection.v1alpha: what the contract looks like, for callers with a key."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

from chatd_server.domain.refusal import Refused, Unavailable
from chatd_server.rpc.edge import errors
from chatd_server.rpc.edge.arrivals import Arrivals
from chatd_server.rpc.edge.auth import Authenticator
from chatd_server.rpc.edge.grpc_server import Handler
from chatd_server.rpc.edge.listen import Service
from chatd_server.rpc.edge.wire import decoded

SERVICE: str = SERVICE_NAME


class Reflection:
    """Answers what grpc's own reflection answers, for the services of the same port."""

    def __init__(
        self, services: Iterable[Service], authenticator: Authenticator, arrivals: Arrivals
    ) -> None:
        methods = [method for service in services for method in service.handlers]
        names = {method.partition("/")[0] for method in methods} | {SERVICE}
        self._reflection: Any = reflection_aio.ReflectionServicer(sorted(names))
        self._authenticator = authenticator
        self._arrivals = arrivals

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """How its method is answered."""
        name = f"{SERVICE}/ServerReflectionInfo"
        return {name: grpc.stream_stream_rpc_method_handler(self._answer)}

    async def _answer(self, _requests: object, context: Any) -> None:
        try:
            # grpc's own client fails on its own when it is refused before it has asked.
            raw = await self._arrivals.request(context)
            await self._authenticator.caller(context.invocation_metadata() or ())
            async for response in self._reflection.ServerReflectionInfo(
                _asked(raw, context), context
            ):
                await context.write(response.SerializeToString())
        except (Refused, Unavailable) as error:
            await errors.abort(context, error)


async def _asked(raw: Any, context: Any) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    """Yield the request that was read already, then the others; raises MalformedRequest."""
    while raw is not grpc.aio.EOF:
        request: Any = decoded(reflection_pb2.ServerReflectionRequest, raw)
        yield request
        raw = await context.read()
