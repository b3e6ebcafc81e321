"""The part of the history that the model gets."""

import msgspec
import pytest

from chatd_server.agent.model.prompt import Prompt
from chatd_server.agent.tools.toolbox import Toolbox
from chatd_server.domain.chat import ClientTool
from chatd_server.domain.message import (
    Executor,
    FinishReason,
    Message,
    Reasoning,
    Role,
    Visibility,
)
from tests.kit.make import (
    FixedTool,
    answer,
    call,
    message,
    provider_result,
    result,
    user,
)

PROVIDER = Executor.PROVIDER
UNPAIRED = answer("I look", call("s", PROVIDER), finish=FinishReason.INTERRUPTED)
PAIRED = answer(call("s", PROVIDER), provider_result("s"), "found")
PAUSED = answer("I look", call("s", PROVIDER, vendor_id="v"), finish=FinishReason.PAUSED)
RESUMED = answer(provider_result("s"), "found", position=3)


def prompt_of(*messages: Message) -> Prompt:
    """A prompt with these messages."""
    prompt = Prompt()
    prompt.extend(messages)
    return prompt


@pytest.mark.parametrize(
    ("history", "seen"),
    [
        pytest.param([user("go"), PAIRED], [user("go"), PAIRED], id="a pair stays"),
        pytest.param(
            [user("go"), UNPAIRED, user("on")],
            [user("go"), answer("I look", finish=FinishReason.INTERRUPTED), user("on")],
            id="a provider's call without a result is left out",
        ),
        pytest.param(
            [user("go"), answer(call("s", PROVIDER), finish=FinishReason.INTERRUPTED)],
            [user("go")],
            id="an answer of nothing else goes too",
        ),
        pytest.param(
            [user("go"), answer(Reasoning(""), ""), user("on")],
            [user("go"), user("on")],
            id="an empty answer is left out",
        ),
        pytest.param(
            [user("go"), answer("on it", call("a")), result("a")],
            [user("go"), answer("on it", call("a")), result("a")],
            id="our calls and results stay",
        ),
        pytest.param(
            [message(Role.USER, "note", visibility=Visibility.USER), user("go")],
            [user("go")],
            id="what is for the user alone is left out",
        ),
        pytest.param(
            [message(Role.USER, "summary", visibility=Visibility.MODEL), user("go")],
            [message(Role.USER, "summary", visibility=Visibility.MODEL), user("go")],
            id="what is for the model alone stays",
        ),
        pytest.param([user("go"), PAUSED], [user("go"), PAUSED], id="a pause goes back as it is"),
        pytest.param(
            [user("go"), PAUSED, RESUMED],
            [user("go"), PAUSED, RESUMED],
            id="a pair may span a pause",
        ),
        pytest.param(
            [user("go"), PAUSED, answer("never mind", position=3)],
            [
                user("go"),
                answer("I look", finish=FinishReason.PAUSED),
                answer("never mind", position=3),
            ],
            id="a pause that was not answered is left out",
        ),
        pytest.param(
            [
                user("go"),
                answer(call("s", PROVIDER), finish=FinishReason.PAUSED),
                answer("never mind", position=3),
            ],
            [user("go"), answer("never mind", position=3)],
            id="a pause of nothing else goes too",
        ),
        pytest.param(
            [user("go"), PAUSED, user("on", position=3)],
            [user("go"), answer("I look", finish=FinishReason.PAUSED), user("on", position=3)],
            id="a pause that a user cut is left out",
        ),
    ],
)
def test_prompt(history: list[Message], seen: list[Message]) -> None:
    """The whole history at once gives the same prompt as message by message."""
    assert prompt_of(*history).messages == seen
    grown = Prompt()
    for one in history:
        grown.extend([one])
    assert grown.messages == seen


def test_a_prompt_grows_in_place() -> None:
    """The list and its messages stay the same objects from step to step."""
    prompt = prompt_of(user("go"))
    messages, first = prompt.messages, prompt.messages[0]
    prompt.extend([answer("on it", call("a")), result("a")])
    assert prompt.messages is messages
    assert messages[0] is first
    assert len(messages) == 3


def test_a_paused_answer_lists_its_open_calls() -> None:
    """The next attempt can pair the vendor's late result with its call."""
    assert prompt_of(user("go"), PAUSED).asked == {"v": "s"}
    assert prompt_of(user("go"), PAUSED, RESUMED).asked == {}


def test_the_id_of_the_newest_answer_counts_only_for_its_model() -> None:
    """A vendor that stores conversations knows only its own answers."""
    given = msgspec.structs.replace(answer("hi"), model="test/a", response_id="resp_1")
    prompt = prompt_of(user("go"), given, user("on", position=3))
    assert prompt.response_id_of("test/a") == "resp_1"
    assert prompt.response_id_of("test/b") == ""
    assert prompt_of(user("go")).response_id_of("test/a") == ""


def test_a_clients_name_hides_a_built_in() -> None:
    """The model gets only the client's tool, with the client's schema."""
    box = Toolbox((FixedTool("shell"), FixedTool("open")), [ClientTool("open", "mine")])
    assert box.names == ("shell", "open")
    assert box.specs[1].description == "mine"
    assert box.hidden == ("open",)
    assert box.executor_of("open") is Executor.CLIENT
    assert box.server_tool("open") is not None
