"""Rule 2: how open tool calls are answered.

An answer is committed before its tools run, so calls without a result can exist in pending,
running, interrupting and requires_action. Every transition that inserts a user's message, sets
a boundary, or enters waiting or error writes exactly one result for each of them: `closing_results`
decides which, for every rule.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from chatd_server.domain.chat import OpenCall
from chatd_server.domain.command import SubmittedResult, SubmitToolResults
from chatd_server.domain.ids import Instant, ToolCallId
from chatd_server.domain.json_text import json_fault
from chatd_server.domain.limits import (
    CALLS_PER_ANSWER_MAX,
    CLIENT_RESULT_ROOM_BYTES,
    RESULTS_MESSAGE_BYTES_MAX,
    TOOL_BATCH_BYTES_MAX,
)
from chatd_server.domain.message import Executor, Part, ToolCall, ToolErrorKind, ToolResult
from chatd_server.domain.refusal import ToolResultsMismatch, Violation
from chatd_server.domain.text import cut_to

_ANSWER_CUT = "Not run: the answer was cut, so this call may be incomplete. Ask for it again."
NOT_RUN = {
    ToolErrorKind.INTERRUPTED: "Interrupted: the turn was stopped before this call had a result.",
    ToolErrorKind.EXPIRED: "Expired: the client gave no result in time.",
    ToolErrorKind.ANSWER_CUT: _ANSWER_CUT,
}
"""What the model is told of a call that never ran, by the reason."""

OUTCOME_UNKNOWN = (
    "Outcome unknown: this call had started when its worker was lost. It may or may not have "
    "taken effect; check before doing it again."
)
"""What the model is told of a call that had started and left no outcome."""

_TOO_MANY_CALLS = (
    f"Not run: the answer has more than {CALLS_PER_ANSWER_MAX} calls. Ask for it again in another "
    "answer."
)
"""What the model is told of a call above the limit."""

_NOT_ALONE = "Not run: {name} must be the only call of its answer. Ask for it again, alone."
"""What the model is told of a call of an exclusive tool beside another one."""

_BESIDE = (
    "Not run: {name} must be the only call of its answer. Ask again without {name}, or for {name} "
    "first."
)
"""What the model is told of a call beside one of an exclusive tool."""

_CUT_NOTE = f"\n[cut: the results of this step are longer than {TOOL_BATCH_BYTES_MAX} bytes]"
"""The end of a client's result that was cut."""

_RESULT_BYTES = 256
"""Bytes of an event that a result takes besides its name and its output, rounded up."""

_NO_OUTCOMES: Mapping[ToolCallId, ToolResult] = {}


def opened_calls(parts: Iterable[Part]) -> tuple[OpenCall, ...]:
    """Return the calls of an answer that wait for a result of ours or of the client's.

    A call that the provider executed never waits: its result, if any, is part of the answer.
    """
    return tuple(
        [
            OpenCall(
                id=part.id,
                name=part.name,
                executor=part.executor,
                created_at=part.created_at,
                arguments=part.arguments,
            )
            for part in parts
            if type(part) is ToolCall and part.executor is not Executor.PROVIDER
        ]
    )


def cut_results(parts: Iterable[Part], now: Instant) -> tuple[ToolResult, ...]:
    """Return a result for each call of an answer that was cut: no such call is opened or run."""
    return tuple(
        [call.error(ToolErrorKind.ANSWER_CUT, _ANSWER_CUT, now) for call in opened_calls(parts)]
    )


def surplus_results(calls: Iterable[OpenCall], now: Instant) -> tuple[ToolResult, ...]:
    """Return a result for each call above CALLS_PER_ANSWER_MAX: no such call is opened or run."""
    return tuple([call.error(ToolErrorKind.INVALID_CALL, _TOO_MANY_CALLS, now) for call in calls])


def crowded_results(
    calls: Iterable[OpenCall], crowded: Collection[str], now: Instant
) -> tuple[ToolResult, ...]:
    """Return a result for each call of an answer in which these tools were not alone: none runs."""
    name = next(iter(crowded))
    return tuple(
        [
            call.error(
                ToolErrorKind.INVALID_CALL,
                _NOT_ALONE.format(name=call.name)
                if call.name in crowded
                else _BESIDE.format(name=name),
                now,
            )
            for call in calls
        ]
    )


def closing_results(
    calls: Iterable[OpenCall],
    why: ToolErrorKind,
    now: Instant,
    outcomes: Mapping[ToolCallId, ToolResult] = _NO_OUTCOMES,
) -> tuple[ToolResult, ...]:
    """Return exactly one result for each open call, in call order.

    The recorded outcome if there is one (`outcomes` are newer than the journal), `outcome
    unknown` if the call had started, else `why`.
    """
    return tuple(
        [
            outcomes.get(call.id) or call.outcome or _without_outcome(call, why, now)
            for call in calls
        ]
    )


def _without_outcome(call: OpenCall, why: ToolErrorKind, now: Instant) -> ToolResult:
    if call.started_at is not None:
        return call.error(ToolErrorKind.OUTCOME_UNKNOWN, OUTCOME_UNKNOWN, now)
    return call.error(why, NOT_RUN[why], now)


def batch_results(
    calls: tuple[OpenCall, ...], results: tuple[ToolResult, ...]
) -> tuple[tuple[ToolResult, ...], tuple[OpenCall, ...]]:
    """Return a batch's results in call order, and the calls that stay open: the client's.

    Raises ToolResultsMismatch unless there is exactly one for each call of executor SERVER or
    NONE; only a defect of a worker causes that.
    """
    owed = [call for call in calls if call.executor is not Executor.CLIENT]
    given = {result.call_id: result for result in results}
    ordered = tuple([given[call.id] for call in owed if call.id in given])
    if not len(ordered) == len(owed) == len(results):
        names = ", ".join(call.id for call in owed)
        raise ToolResultsMismatch(
            Violation("results", f"must answer exactly: {names or 'no call'}")
        )
    if len(owed) == len(calls):
        return ordered, ()
    return ordered, tuple(call for call in calls if call.executor is Executor.CLIENT)


def fitting(results: tuple[ToolResult, ...]) -> list[tuple[ToolResult, ...]]:
    """Return the results in groups that fit one event each, in the same order."""
    if len(results) == 1:
        return [results]
    sizes = [_RESULT_BYTES + len(it.name.encode()) + len(it.output.encode()) for it in results]
    groups: list[tuple[ToolResult, ...]] = []
    begin = size = 0
    for index, added in enumerate(sizes):
        if index > begin and size + added > RESULTS_MESSAGE_BYTES_MAX:
            groups.append(results[begin:index])
            begin, size = index, 0
        size += added
    return [*groups, results[begin:]]


def owes_batch(calls: Iterable[OpenCall]) -> bool:
    """Say whether a call of ours has no result: one batch of tools is owed."""
    return any(call.executor is not Executor.CLIENT for call in calls)


def waiting_calls(calls: Iterable[OpenCall]) -> tuple[ToolCallId, ...]:
    """Return the client's calls that have no result yet, in call order."""
    return tuple(call.id for call in calls if call.is_wanted)


def completes(calls: Iterable[OpenCall], command: SubmitToolResults) -> bool:
    """Say whether these results leave no call of the client's open."""
    return {result.call_id for result in command.results}.issuperset(waiting_calls(calls))


def with_outcomes(
    calls: tuple[OpenCall, ...], command: SubmitToolResults, now: Instant
) -> tuple[OpenCall, ...]:
    """Return the calls with the client's results kept in them.

    Each result may have CLIENT_RESULT_ROOM_BYTES. What is left of TOOL_BATCH_BYTES_MAX goes to the
    results that were kept earlier, then in call order; a longer result is cut. Raises
    ToolResultsMismatch with every missing (unless partial is allowed), unexpected and duplicate
    id and every invalid JSON output.
    """
    violations = _violations(calls, command)
    if violations:
        raise ToolResultsMismatch(*violations)
    given = {result.call_id: result for result in command.results}
    kept = [call.outcome for call in calls if call.outcome is not None]
    spare = TOOL_BATCH_BYTES_MAX - sum(len(it.output.encode()) for it in kept)
    spare -= CLIENT_RESULT_ROOM_BYTES * (len(calls) - len(kept))
    answered: list[OpenCall] = []
    for call in calls:
        if call.id in given:
            outcome = _outcome(call, given[call.id], CLIENT_RESULT_ROOM_BYTES + spare, now)
            spare += CLIENT_RESULT_ROOM_BYTES - len(outcome.output.encode())
            answered.append(msgspec.structs.replace(call, outcome=outcome))
        else:
            answered.append(call)
    return tuple(answered)


def _outcome(call: OpenCall, result: SubmittedResult, bytes_max: int, now: Instant) -> ToolResult:
    output, is_cut = cut_to(result.output, bytes_max, _CUT_NOTE)
    return ToolResult(
        call_id=call.id,
        name=call.name,
        output=output,
        executor=call.executor,
        created_at=now,
        is_json=result.is_json and not is_cut,
        error=ToolErrorKind.FAILED if result.is_error else None,
        truncated=is_cut,
    )


def _violations(calls: tuple[OpenCall, ...], command: SubmitToolResults) -> list[Violation]:
    waiting = waiting_calls(calls)
    answered = {call.id for call in calls if call.outcome is not None}
    seen: set[ToolCallId] = set()
    found: list[Violation] = []
    for index, result in enumerate(command.results):
        field = f"results[{index}].call_id"
        shown = result.call_id[:64]
        if result.call_id in seen:
            found.append(Violation(field, f"{shown!r} is named twice"))
        elif result.call_id in answered:
            found.append(Violation(field, f"{shown!r} has its result already"))
        elif result.call_id not in waiting:
            found.append(Violation(field, f"{shown!r} is not a pending call"))
        seen.add(result.call_id)
        fault = json_fault(result.output) if result.is_json else ""
        if fault:
            found.append(Violation(f"results[{index}].output", f"{fault}; send plain text"))
    if not command.allow_partial:
        found.extend(
            Violation("results", f"the result of {call_id!r} is missing")
            for call_id in waiting
            if call_id not in seen
        )
    return found
