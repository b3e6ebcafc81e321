"""A message's words into a plan: one directive per line, everything else is conversation."""

import difflib
from collections.abc import Sequence

from chatd_server.domain.message import FinishReason
from chatd_server.providers.sandbox.directives import BY_NAME, Directive, Finish, Mark, Step
from chatd_server.providers.sandbox.fields import Unreadable
from chatd_server.providers.sandbox.plan import (
    Act,
    Add,
    Answer,
    Call,
    Plan,
    Problem,
    Search,
    Speak,
)


def parse(text: str) -> Plan:
    """Return what the directives ask for; without directives a plan without answers."""
    marks: list[tuple[int, str, Mark]] = []
    problems: list[Problem] = []
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not _is_directive(line):
            continue
        try:
            marks.append((number, line, _read(line)))
        except Unreadable as unreadable:
            problems.append(Problem(number, line, str(unreadable)))
    answers, misplaced = _answers(marks)
    problems += misplaced
    if problems:
        return Plan(problems=tuple(sorted(problems, key=lambda problem: problem.line)))
    return Plan(answers)


def _is_directive(line: str) -> bool:
    return line[:1] == "!" and line[1:2].isalpha()


def _read(line: str) -> Mark:
    name, *rest = line[1:].split(maxsplit=1)
    directive = BY_NAME.get(name)
    if directive is None:
        raise Unreadable(_unknown(name))
    try:
        return directive.read(rest[0] if rest else "")
    except Unreadable as unreadable:
        raise Unreadable(f"{unreadable}; {_reminder(directive)}") from unreadable


def _reminder(directive: Directive) -> str:
    return f"write {directive.usage}, for example {directive.example}"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), BY_NAME, n=1)
    return (
        f"there is no such directive; did you mean !{near[0]}?"
        if near
        else (
            f"there is no such directive; there are {', '.join('!' + known for known in BY_NAME)}"
        )
    )


def _answers(
    marks: Sequence[tuple[int, str, Mark]],
) -> tuple[tuple[Answer, ...], list[Problem]]:
    """Split at `!step`, and say which marks stand where they cannot."""
    answers: list[Answer] = []
    problems: list[Problem] = []
    acts: list[Act] = []
    finish: FinishReason | None = None
    for number, line, mark in marks:
        if isinstance(mark, Step):
            answers.append(Answer(tuple(acts), finish))
            if not _goes_on(answers[-1]):
                problems.append(Problem(number, line, _NEVER_REACHED))
            acts, finish = [], None
        elif finish is not None:
            problems.append(Problem(number, line, "only !step can follow after !finish"))
        elif isinstance(mark, Finish):
            finish = mark.reason
            if finish is FinishReason.PAUSED and not _has_content(acts):
                problems.append(Problem(number, line, "a paused answer needs content before it"))
        else:
            acts.append(mark)
    if marks:
        answers.append(Answer(tuple(acts), finish))
    return tuple(answers), problems


_NEVER_REACHED = (
    "the turn ends with the answer before it; a next one comes only behind a !call or a "
    "!search_later, or behind !finish paused"
)


def _goes_on(answer: Answer) -> bool:
    """Say whether a turn goes on behind an answer: the model waits for results, or paused."""
    if answer.reason is FinishReason.TOOL_CALLS:
        return answer.has_calls
    return answer.reason is FinishReason.PAUSED


def _has_content(acts: Sequence[Act]) -> bool:
    return any(isinstance(act, Speak | Call | Search | Add) for act in acts)
