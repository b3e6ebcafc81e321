"""The sandbox: a deterministic model for people who write clients; see docs/sandbox.md."""

from chatd_server.providers.sandbox.model import MODEL, SandboxProvider
from chatd_server.providers.sandbox.plan import PROVIDER

__all__ = ["MODEL", "PROVIDER", "SandboxProvider"]
