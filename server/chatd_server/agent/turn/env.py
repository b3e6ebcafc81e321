"""The dependencies of a run, in one value."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatd_server.agent.compaction.settings import CompactionSettings
from chatd_server.domain.ids import WorkerId
from chatd_server.observe import Observer
from chatd_server.ports.clock import Clock
from chatd_server.ports.live import Live
from chatd_server.ports.models import Models
from chatd_server.ports.store import Store
from chatd_server.ports.tools import ToolSource


@dataclass(frozen=True)
class Env:
    """The ports that all runs of a worker share."""

    worker_id: WorkerId
    store: Store
    live: Live
    models: Models
    tool_sources: Sequence[ToolSource]
    clock: Clock
    observer: Observer
    #: "provider/model" for chats that name no model.
    default_model: str = ""
    compaction: CompactionSettings = field(default_factory=CompactionSettings)
    #: Tools that ignored their cancellation; this reference keeps their tasks alive.
    abandoned: set[asyncio.Task[object]] = field(default_factory=set)
