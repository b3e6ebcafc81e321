"""What `usage_total` counts: every answer that was committed, and every call that a stop cut."""

from chatd_server.domain.command import CommitAnswer, EditMessage, FinishInterruption, ScheduleRetry
from chatd_server.domain.message import FinishReason, Text, Usage
from tests.domain.situations import running
from tests.kit.by_hand import ERROR, ByHand

SPENT = Usage(input_tokens=100, output_tokens=7, context_tokens=107, context_limit=1000)


def answered(chat: ByHand, usage: Usage = SPENT) -> None:
    """Commit an answer that has cost something."""
    chat.do(
        CommitAnswer(
            **chat.hold(),
            attempt_id=chat.attempt(),
            parts=(Text("so"),),
            finish_reason=FinishReason.END_TURN,
            model="a/b",
            usage=usage,
        )
    )


def cut(chat: ByHand, *parts: Text) -> None:
    """Interrupt a call that had said so much, and had told what it costs so far."""
    attempt_id = chat.attempt()
    chat.interrupt()
    save = FinishInterruption(**chat.hold(), attempt_id=attempt_id, parts=parts, usage=SPENT)
    chat.do(save)


def of_messages(chat: ByHand) -> Usage:
    """Return the sum over the messages that stand."""
    total = Usage()
    for message in chat.messages:
        if message.usage is not None:
            total = total.plus(message.usage)
    return total


def test_the_total_is_the_sum_of_the_messages() -> None:
    """Answers, and an answer that was cut; each counts once."""
    chat = running()
    answered(chat)
    cut(chat, Text("half"))
    assert chat.state.usage_total == of_messages(chat)
    assert chat.state.usage_total.input_tokens == 200


def test_a_call_that_was_cut_before_its_first_word_counts_and_leaves_no_message() -> None:
    """The prompt was read, and is paid for."""
    chat = running()
    answered(chat)
    cut(chat)
    assert of_messages(chat) == SPENT
    assert chat.state.usage_total == SPENT.plus(SPENT)


def test_a_call_that_was_cut_before_it_told_anything_leaves_the_total_as_it_is() -> None:
    """What is known of the context stays known."""
    chat = running()
    answered(chat)
    chat.interrupt()
    chat.do(FinishInterruption(**chat.hold()))
    assert chat.state.usage_total == SPENT


def test_an_edit_takes_nothing_from_the_total() -> None:
    """The removed answers were given, and are paid for."""
    chat = running()
    answered(chat)
    chat.do(EditMessage(command_id="x", position=1, parts=(Text("rather"),)))
    assert of_messages(chat) == Usage()
    assert chat.state.usage_total == SPENT


def test_a_failed_call_counts_nothing() -> None:
    """What a provider takes for it is not known."""
    chat = running()
    attempt_id = chat.attempt()
    chat.do(ScheduleRetry(**chat.hold(), attempt_id=attempt_id, delay_seconds=1.0, error=ERROR))
    assert chat.state.usage_total == Usage()
    answered(chat)
    assert chat.state.usage_total == SPENT


def test_the_context_is_that_of_the_newest_answer() -> None:
    """It is not a sum; an answer that does not say it leaves it unknown."""
    chat = running()
    answered(chat)
    answered(chat, Usage(input_tokens=1, context_tokens=5))
    total = chat.state.usage_total
    assert (total.input_tokens, total.context_tokens, total.context_limit) == (101, 5, None)
