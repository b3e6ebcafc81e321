"""What each part is told of the configuration."""

from chatd_server.config.load import Config
from chatd_server.hub.hub import HubSettings
from chatd_server.providers.settings import ProviderSettings
from chatd_server.rpc.edge.server import Listen
from chatd_server.worker.settings import WorkerSettings


def provider_settings(config: Config) -> dict[str, ProviderSettings]:
    """Return what the providers are told."""
    key, url = config.anthropic_api_key, config.anthropic_base_url
    return {"anthropic": ProviderSettings(api_key=key, base_url=url)}


def worker_settings(config: Config) -> WorkerSettings:
    """Return what the worker is told."""
    return WorkerSettings(
        slots_max=config.runs_max,
        lease_seconds=config.lease_seconds,
        heartbeat_seconds=config.lease_heartbeat_seconds,
        poll_seconds=config.poll_seconds,
        drain_seconds=config.drain_seconds,
    )


def hub_settings(config: Config) -> HubSettings:
    """Return what the hub is told."""
    return HubSettings(
        heartbeat_seconds=config.stream_heartbeat_seconds,
        reads_at_heartbeat=config.is_postgres,  # SQLite has no other process to hear of late
    )


def listen(config: Config) -> Listen:
    """Return where the server listens."""
    return Listen(host=config.host, port=config.port, reuse_port=config.reuse_port)
