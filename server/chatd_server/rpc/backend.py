"""What the RPCs stand on: the use cases, and what their responses are made with."""

from collections.abc import Sequence

import msgspec

from chatd_server.ports.clock import Clock
from chatd_server.ports.streams import Streams
from chatd_server.ports.watch import Watches
from chatd_server.rpc.edge.auth import Authenticator
from chatd_server.rpc.edge.paging import PageTokens
from chatd_server.service.chats import Chats
from chatd_server.service.checks import Checks
from chatd_server.service.context import Contexts
from chatd_server.service.log import Log
from chatd_server.service.messages import Messages
from chatd_server.service.queue import Queue
from chatd_server.service.titles import Titles
from chatd_server.service.tools import ClientTools
from chatd_server.service.turns import Turns


class ServerFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What GetServerInfo says, except for the limits."""

    version: str
    instance_id: str
    default_model: str
    heartbeat_seconds: float
    #: Full names of the RPCs that this server answers.
    implemented: Sequence[str]


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """Every handler takes this first."""

    chats: Chats
    messages: Messages
    contexts: Contexts
    titles: Titles
    turns: Turns
    queue: Queue
    tools: ClientTools
    log: Log
    checks: Checks
    streams: Streams
    watches: Watches
    authenticator: Authenticator
    tokens: PageTokens
    facts: ServerFacts
    clock: Clock
