"""Rule 2: how open tool calls are answered.

An answer is committed before its tools run, so calls without a result can exist in pending,
running, interrupting and requires_action. Every transition that inserts a user's message, sets
a boundary, or enters waiting or error writes exactly one result for each of them. The function
here decides which; no command does it by itself.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from chatd_server.domain.chat import OpenCall
from chatd_server.domain.command import SubmittedResult, SubmitToolResults
from chatd_server.domain.ids import Instant, ToolCallId
from chatd_server.domain.limits import RESULTS_MESSAGE_BYTES_MAX
from chatd_server.domain.message import (
    Executor,
    Part,
    ToolCall,
    ToolErrorKind,
    ToolResult,
)
from chatd_server.domain.refusal import ToolResultsMismatch, Violation

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

_RESULT_BYTES = 256
"""Bytes of an event that a result takes beside its name and its output, rounded up."""

_NO_OUTCOMES: Mapping[ToolCallId, ToolResult] = {}


def opened_calls(parts: Iterable[Part]) -> tuple[OpenCall, ...]:
    """Return the calls of an answer that wait for a result of ours or of the client's.

    A call that the provider executed never waits: its result, if any, stands in the answer.
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
    """Return a result for each call of an answer that was cut: none of them is opened, or runs."""
    return tuple(
        [
            ToolResult(
                call_id=part.id,
                name=part.name,
                output=_ANSWER_CUT,
                executor=part.executor,
                created_at=now,
                error=ToolErrorKind.ANSWER_CUT,
            )
            for part in parts
            if type(part) is ToolCall and part.executor is not Executor.PROVIDER
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
    lost = call.started_at is not None
    return ToolResult(
        call_id=call.id,
        name=call.name,
        output=OUTCOME_UNKNOWN if lost else NOT_RUN[why],
        executor=call.executor,
        created_at=now,
        error=ToolErrorKind.OUTCOME_UNKNOWN if lost else why,
    )


def batch_results(
    calls: tuple[OpenCall, ...], results: tuple[ToolResult, ...]
) -> tuple[tuple[ToolResult, ...], tuple[OpenCall, ...]]:
    """Return a batch's results in call order, and the calls that stay open: the client's.

    Raises ToolResultsMismatch unless there is exactly one for each call of executor SERVER or
    NONE: only a defect of the worker can cause it.
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
    """Return the results in groups of which each fits one event, all in the same order."""
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


def waiting_calls(calls: Iterable[OpenCall]) -> tuple[ToolCallId, ...]:
    """Return the client's calls that have no result yet, in call order."""
    return tuple(
        call.id for call in calls if call.executor is Executor.CLIENT and call.outcome is None
    )


def completes(calls: Iterable[OpenCall], command: SubmitToolResults) -> bool:
    """Say whether these results leave no call of the client's open."""
    return {result.call_id for result in command.results}.issuperset(waiting_calls(calls))


def with_outcomes(
    calls: tuple[OpenCall, ...], command: SubmitToolResults, now: Instant
) -> tuple[OpenCall, ...]:
    """Return the calls with the client's results kept in them.

    Raises ToolResultsMismatch with every missing (unless partial is allowed), unexpected and
    duplicate id and every invalid JSON output.
    """
    violations = _violations(calls, command)
    if violations:
        raise ToolResultsMismatch(*violations)
    given = {result.call_id: result for result in command.results}
    return tuple(
        msgspec.structs.replace(call, outcome=_outcome(call, given[call.id], now))
        if call.id in given
        else call
        for call in calls
    )


def _outcome(call: OpenCall, result: SubmittedResult, now: Instant) -> ToolResult:
    return ToolResult(
        call_id=call.id,
        name=call.name,
        output=result.output,
        executor=call.executor,
        created_at=now,
        is_json=result.is_json,
        error=ToolErrorKind.FAILED if result.is_error else None,
    )


def _violations(calls: tuple[OpenCall, ...], command: SubmitToolResults) -> list[Violation]:
    waiting = waiting_calls(calls)
    answered = {call.id for call in calls if call.outcome is not None}
    seen: set[ToolCallId] = set()
    found: list[Violation] = []
    for index, result in enumerate(command.results):
        field = f"results[{index}].tool_call_id"
        shown = result.call_id[:64]
        if result.call_id in seen:
            found.append(Violation(field, f"{shown!r} is named twice"))
        elif result.call_id in answered:
            found.append(Violation(field, f"{shown!r} has its result already"))
        elif result.call_id not in waiting:
            found.append(Violation(field, f"{shown!r} is no pending call"))
        seen.add(result.call_id)
        if result.is_json and not is_json(result.output):
            found.append(
                Violation(f"results[{index}].output_json", "is not valid JSON; send plain text")
            )
    if not command.allow_partial:
        found.extend(
            Violation("results", f"the result of {call_id!r} is missing")
            for call_id in waiting
            if call_id not in seen
        )
    return found


_raw = msgspec.json.Decoder(msgspec.Raw)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def is_json(text: str) -> bool:
    """Say whether text is JSON as RFC 8259 has it: any number, any escape, but no NaN.

    No value is made of it: 512 KiB would take 26 ms, in one call that lets no other thread work.
    """
    try:
        _raw.decode(text)
    except RecursionError:
        return False
    except (msgspec.DecodeError, UnicodeError):
        # It refuses the escapes of lone surrogates; with any other escape in their place the
        # text is as valid as before, also where a backslash stands before them.
        harmless = _SURROGATE.sub(r"\\u0020", text)
        return harmless != text and is_json(harmless)
    return True
