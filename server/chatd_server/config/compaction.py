"""When and how the context of a chat is summarised."""

from typing import Annotated

import msgspec
from msgspec import Meta

Percent = Annotated[float, Meta(ge=0, le=100)]


class CompactionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When and how the context of a chat is summarised."""

    compaction_threshold_percent: Annotated[
        float,
        Meta(
            description="Share of the context window at which a context is summarised by itself; "
            "100: never.",
            ge=0,
            le=100,
        ),
    ] = 70.0
    compaction_threshold_models: Annotated[
        dict[str, Percent],
        Meta(description='Other thresholds for models, by "provider/model".'),
    ] = {}
    compaction_threshold_owners: Annotated[
        dict[str, Percent],
        Meta(description="Other thresholds for owners; they count before those of models."),
    ] = {}
    compaction_model: Annotated[
        str,
        Meta(
            description='"provider/model" that writes the summaries; empty: the model of the turn.',
            pattern=r"^([^/\s]+/\S+)?$",
        ),
    ] = ""
    compaction_timeout_seconds: Annotated[
        float, Meta(description="How long one summary may take.", ge=1, le=3600)
    ] = 90.0
