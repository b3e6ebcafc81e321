"""The settings of titles."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TitleSettings:
    """Who writes titles."""

    #: "provider/model"; empty: the model of the chat.
    model: str = ""
