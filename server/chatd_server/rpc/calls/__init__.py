"""The RPCs, in groups: one file for each group, with its checks, its handlers and its ANSWERS.

A new group is a file here and its place in GROUPS. An RPC of the contract that no group answers
is NOT_IMPLEMENTED.
"""

from chatd.v1 import admin_service_pb2, chat_service_pb2
from chatd_server.rpc.calls import admin, chats, context, log, messages, queue, titles, tools, turns

GROUPS = (
    chats.ANSWERS,
    messages.ANSWERS,
    context.ANSWERS,
    turns.ANSWERS,
    queue.ANSWERS,
    titles.ANSWERS,
    tools.ANSWERS,
    log.ANSWERS,
    admin.ANSWERS,
)

SERVICES = (
    chat_service_pb2.DESCRIPTOR.services_by_name["ChatService"],
    admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"],
)
"""The services of the public port."""
