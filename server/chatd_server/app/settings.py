"""The part of the configuration that each component gets."""

from collections.abc import Sequence

import msgspec

from chatd_server.agent.compaction.settings import CompactionSettings
from chatd_server.agent.titles.settings import TitleSettings
from chatd_server.config.load import server_version
from chatd_server.config.settings import Config
from chatd_server.domain.context import Thresholds
from chatd_server.domain.ids import WorkerId
from chatd_server.hub.settings import HubSettings
from chatd_server.providers.registry import ADAPTERS
from chatd_server.providers.settings import ProviderSettings
from chatd_server.rpc.backend import ServerFacts
from chatd_server.rpc.edge.listen import Listen
from chatd_server.worker.settings import WorkerSettings

DAY_SECONDS = 24 * 60 * 60


def provider_settings(config: Config) -> dict[str, ProviderSettings]:
    """Return the settings of each provider that needs a key, by its name."""
    given = msgspec.structs.asdict(config.providers)
    return {
        name: ProviderSettings(api_key=given[f"{name}_api_key"], base_url=given[f"{name}_base_url"])
        for name, adapter in ADAPTERS.items()
        if adapter.needs_key
    }


def worker_settings(config: Config) -> WorkerSettings:
    return WorkerSettings(
        slots_max=config.worker.runs_max,
        lease_seconds=config.worker.lease_seconds,
        heartbeat_seconds=config.worker.lease_heartbeat_seconds,
        poll_seconds=config.worker.poll_seconds,
        drain_seconds=config.server.drain_seconds,
    )


def hub_settings(config: Config) -> HubSettings:
    return HubSettings(
        heartbeat_seconds=config.streams.stream_heartbeat_seconds,
        reads_at_heartbeat=config.is_postgres,  # with SQLite no other process writes
        event_retention_seconds=config.streams.event_retention_days * DAY_SECONDS,
    )


def compaction_settings(config: Config) -> CompactionSettings:
    """Return when and how contexts are summarised."""
    return CompactionSettings(
        thresholds=Thresholds(
            config.compaction.compaction_threshold_percent,
            config.compaction.compaction_threshold_models,
            config.compaction.compaction_threshold_owners,
        ),
        model=config.compaction.compaction_model,
        timeout_seconds=config.compaction.compaction_timeout_seconds,
    )


def title_settings(config: Config) -> TitleSettings:
    return TitleSettings(model=config.titles.title_model)


def listen(config: Config) -> Listen:
    return Listen(
        host=config.server.host, port=config.server.port, reuse_port=config.server.reuse_port
    )


def server_facts(config: Config, worker_id: WorkerId, implemented: Sequence[str]) -> ServerFacts:
    return ServerFacts(
        version=server_version(),
        instance_id=worker_id,
        default_model=config.worker.default_model,
        heartbeat_seconds=config.streams.stream_heartbeat_seconds,
        implemented=implemented,
    )
