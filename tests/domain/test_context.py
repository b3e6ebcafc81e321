"""How full a context is: counts of the vendor, estimates, windows and thresholds."""

import msgspec
import pytest

from chatd_server.domain.context import (
    ContextLevel,
    ContextUse,
    Thresholds,
    measure,
    window,
)
from chatd_server.domain.ids import OwnerId
from chatd_server.domain.message import (
    File,
    FinishReason,
    Message,
    Role,
    Text,
    Usage,
    Visibility,
)
from tests.kit.make import answer, message, result, user

OWNER = OwnerId("owner")


def counted(usage: Usage, finish: FinishReason = FinishReason.END_TURN) -> Message:
    """Return an answer of eight bytes with this usage."""
    return msgspec.structs.replace(answer("all good", finish=finish), usage=usage, model="a/b")


@pytest.mark.parametrize(
    ("usage", "counted_tokens", "used_tokens"),
    [
        pytest.param(Usage(input_tokens=80, output_tokens=7), 80, 87, id="input"),
        pytest.param(
            Usage(input_tokens=5, cache_read_tokens=60, cache_write_tokens=15, output_tokens=7),
            80,
            87,
            id="what was read from the cache and written to it is part of the prompt",
        ),
        pytest.param(
            Usage(input_tokens=80, output_tokens=7, reasoning_tokens=6),
            80,
            87,
            id="reasoning is part of the output",
        ),
        pytest.param(
            Usage(context_tokens=90), 90, 90, id="the total has the answer, where no part is given"
        ),
        pytest.param(
            Usage(context_tokens=90, output_tokens=7), 90, 90, id="and counts it only once"
        ),
        pytest.param(
            Usage(input_tokens=80, output_tokens=7, context_tokens=999),
            80,
            87,
            id="the total does not count beside the parts",
        ),
        pytest.param(Usage(input_tokens=80), 80, 82, id="an answer without a count is estimated"),
        pytest.param(Usage(output_tokens=7), None, 2, id="output alone says nothing of the prompt"),
        pytest.param(Usage(input_tokens=0, context_tokens=0), None, 2, id="zeros are no counts"),
    ],
)
def test_an_answer_counts_the_context(
    usage: Usage, counted_tokens: int | None, used_tokens: int
) -> None:
    """Input and caches of the newest answer, then the answer itself."""
    use = ContextUse().after(counted(usage))
    assert (use.counted_tokens, use.used_tokens) == (counted_tokens, used_tokens)
    assert use.is_answered


def test_what_came_since_is_estimated_by_its_bytes_and_said_to_be() -> None:
    """Four bytes are a token, rounded up; the next answer replaces all estimates."""
    use = ContextUse().after(user("hi there")).after(counted(Usage(input_tokens=80)))
    use = use.after(user("ä" * 3)).after(result("a"))
    assert use.estimated_tokens == -(-(8 + 6 + 4) // 4)
    assert use.used_tokens == 80 + use.estimated_tokens
    assert use.after(counted(Usage(input_tokens=100, output_tokens=1))).used_tokens == 101


def test_an_interrupted_answer_is_estimated() -> None:
    """The vendor counted its first token, if at all."""
    cut = counted(Usage(input_tokens=80, output_tokens=1), FinishReason.INTERRUPTED)
    assert ContextUse().after(cut).used_tokens == 82


def test_what_the_model_does_not_see_and_files_count_nothing() -> None:
    """A picture's tokens have nothing to do with its bytes."""
    use = ContextUse()
    hidden = message(Role.USER, "for people only", visibility=Visibility.USER)
    picture = user(File("image/png", data=b"x" * 1000))
    assert use.after(hidden).after(picture).used_tokens == 0


def test_a_context_that_nobody_counted_is_measured_from_its_newest_count_on() -> None:
    """A worker that finds a state without a count reads what it holds, from the end."""
    messages = [user("hi"), counted(Usage(input_tokens=80, output_tokens=7)), user("more")]
    use = ContextUse()
    for one in messages:
        use = use.after(one)
    assert measure(messages) == use
    assert measure([]) == ContextUse()
    assert measure([user("four")]).used_tokens == 1


@pytest.mark.parametrize(
    ("threshold", "used", "limit", "is_due"),
    [
        (70.0, 80, 100, True),
        (70.0, 70, 100, True),
        (70.0, 69, 100, False),
        (70.0, 10, 100, False),
        (100.0, 500, 100, False),
        (0.0, 1, 1000, True),
        (70.0, 80, None, False),
    ],
    ids=[
        "above",
        "exactly",
        "below",
        "far below",
        "100 is never",
        "0 is always",
        "an unknown window",
    ],
)
def test_a_context_is_due_at_its_threshold(
    threshold: float, used: int, limit: int | None, is_due: bool
) -> None:
    """The share of the window decides, as a fraction."""
    assert ContextLevel(ContextUse(used), limit, threshold).is_due is is_due


def test_an_estimate_alone_is_never_due() -> None:
    """So a summary that is longer than expected is not summarised again at once."""
    assert not ContextLevel(ContextUse(newer_bytes=4000), 100, 70.0).is_due


def test_the_window_is_what_the_vendor_reported_else_the_models_own() -> None:
    """A report of another model does not count, and the smallest of several models decides."""
    use = ContextUse(80, limit=100, model="a/b")
    assert window(use, "a/b", 200) == 100
    assert window(use, "a/c", 200) == 200
    assert window(use, "a/c", None) is None
    assert window(use, "a/b", 200, 50) == 50
    assert window(use, "a/b", 200, None) == 100
    assert window(ContextUse(80, limit=0, model="a/b"), "a/b", None) is None


def test_an_owners_threshold_counts_before_a_models() -> None:
    """Both count before the general one."""
    thresholds = Thresholds(70.0, {"a/b": 50.0}, {OWNER: 90.0})
    assert thresholds.of(OWNER, "a/b") == 90.0
    assert thresholds.of(OwnerId("other"), "a/b") == 50.0
    assert thresholds.of(OwnerId("other"), "a/c") == 70.0


def test_a_new_context_keeps_its_window() -> None:
    """The model is the same; what was counted is gone."""
    use = ContextUse(80, 7, 40, limit=100, model="a/b", is_answered=True)
    assert use.begun_again() == ContextUse(limit=100, model="a/b")
    assert use.begun_again().after(message(Role.USER, Text("four"))).used_tokens == 1
