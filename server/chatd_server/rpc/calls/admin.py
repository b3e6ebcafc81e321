"""RPCs about the server itself."""

from chatd.v1 import admin_service_pb2 as pb
from chatd_server.domain.limits import PUBLISHED
from chatd_server.rpc import convert
from chatd_server.rpc.backend import Backend
from chatd_server.rpc.edge.table import Answer, Answers, Call

API_REVISION = 2
"""Rises with every addition to the contract."""


async def get_server_info(
    backend: Backend, _call: Call, _request: pb.GetServerInfoRequest
) -> pb.GetServerInfoResponse:
    facts = backend.facts
    return pb.GetServerInfoResponse(
        version=facts.version,
        api_revision=API_REVISION,
        instance_id=facts.instance_id,
        implemented_rpcs=facts.implemented,
        limits=[
            pb.Limit(name=it.name, value=it.value, unit=it.unit, reason=it.reason)
            for it in PUBLISHED
        ],
        default_model=facts.default_model,
        heartbeat_interval=convert.duration(facts.heartbeat_seconds),
    )


ANSWERS: Answers = {
    "GetServerInfo": Answer(unary=get_server_info, scope=None, is_about_a_chat=False)
}
