"""The sandbox: a deterministic model for developers of clients; see docs/sandbox.md."""

from chatd_server.providers.sandbox.model import MODEL, SandboxProvider
from chatd_server.providers.sandbox.plan import PROVIDER

__all__ = ["MODEL", "PROVIDER", "SandboxProvider"]
