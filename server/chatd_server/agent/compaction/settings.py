"""The settings of compaction."""

from dataclasses import dataclass, field

from chatd_server.domain.context import Thresholds


@dataclass(frozen=True)
class CompactionSettings:
    """When a context is due, and who summarises it."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    #: "provider/model"; empty: the model of the turn.
    model: str = ""
    #: For one summary.
    timeout_seconds: float = 90.0
