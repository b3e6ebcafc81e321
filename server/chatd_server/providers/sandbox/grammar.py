"""Parses a message into a plan: one directive per line; other lines are conversation."""

import difflib
import re
from collections.abc import Iterator, Sequence

from chatd_server.domain.message import FinishReason
from chatd_server.providers.sandbox.directives import (
    BY_NAME,
    Directive,
    Finish,
    Mark,
    Step,
    Summarise,
)
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

DIRECTIVES_MAX = 4_000
"""Directives per message. The longest turn, with a call in each step, needs 2,400. Each takes some
microseconds to parse, and all are parsed before the first one is played."""
PROBLEMS_MAX = 20
"""Lines that an error message lists. Suggestions take the most time."""
NEAR_CHARACTERS_MAX = 32
"""A longer name is not a misspelled directive."""

_DIRECTIVE = re.compile(r"^[^\S\n]*(![^\W\d_].*)$", re.MULTILINE)


def parse(text: str) -> Plan:
    """Parse the directives; without any, the plan has no answers.

    Parsing stops at DIRECTIVES_MAX and after PROBLEMS_MAX; one more problem then stands for the
    rest.
    """
    marks: list[tuple[int, str, Mark]] = []
    problems: list[Problem] = []
    for number, line in _directives(text):
        if len(problems) > PROBLEMS_MAX:
            break
        if len(marks) == DIRECTIVES_MAX:
            problems.append(Problem(number, line, _TOO_MANY))
            break
        try:
            marks.append((number, line, _read(line)))
        except Unreadable as unreadable:
            problems.append(Problem(number, line, str(unreadable)))
    last = next((n for n, it in enumerate(marks) if isinstance(it[2], Summarise)), len(marks))
    answers, misplaced = _answers(marks[:last])
    summary, wrong = _summary(marks[last:])
    misplaced += wrong
    problems += misplaced
    if problems:
        problems.sort(key=lambda problem: problem.line)
        return Plan(problems=tuple(problems[: PROBLEMS_MAX + 1]))
    return Plan(answers, summary)


def _directives(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are directives, with their line numbers."""
    number, start = 1, 0
    for found in _DIRECTIVE.finditer(text):
        number += text.count("\n", start, found.start())
        start = found.start()
        line = found[1].rstrip()
        if line[1].isalpha():
            yield number, line


_TOO_MANY = f"a message has at most {DIRECTIVES_MAX} directives; send the others in another message"


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
    near: list[str] = []
    if len(name) <= NEAR_CHARACTERS_MAX:
        near = difflib.get_close_matches(name.lower(), BY_NAME, n=1)
    return (
        f"there is no such directive; did you mean !{near[0]}?"
        if near
        else (
            "there is no such directive; choose one of "
            f"{', '.join('!' + known for known in BY_NAME)}"
        )
    )


def _answers(
    marks: Sequence[tuple[int, str, Mark]],
) -> tuple[tuple[Answer, ...], list[Problem]]:
    """Split at `!step`, and find directives in a wrong place."""
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
            problems.append(Problem(number, line, "only !step can follow !finish"))
        elif isinstance(mark, Finish):
            finish = mark.reason
            if finish is FinishReason.PAUSED and not _has_content(acts):
                problems.append(Problem(number, line, "a paused answer needs content before it"))
        elif not isinstance(mark, Summarise):
            acts.append(mark)
    if marks:
        answers.append(Answer(tuple(acts), finish))
    return tuple(answers), problems


def _summary(marks: Sequence[tuple[int, str, Mark]]) -> tuple[Answer | None, list[Problem]]:
    """Return the answer after `!summary`, if there is one: a single one."""
    if not marks:
        return None, []
    problems = [
        Problem(number, line, "after !summary comes one answer, the last of the message")
        for number, line, mark in marks[1:]
        if isinstance(mark, Step | Summarise)
    ]
    answers, misplaced = _answers([it for it in marks[1:] if not isinstance(it[2], Step)])
    return answers[0] if answers else Answer(()), [*problems, *misplaced]


_NEVER_REACHED = (
    "the turn ends with the answer before it; an answer follows only after !call, !search_later "
    "or !finish paused"
)


def _goes_on(answer: Answer) -> bool:
    """Return whether the turn continues after an answer: it waits for results, or paused."""
    if answer.reason is FinishReason.TOOL_CALLS:
        return answer.has_calls
    return answer.reason is FinishReason.PAUSED


def _has_content(acts: Sequence[Act]) -> bool:
    return any(isinstance(act, Speak | Call | Search | Add) for act in acts)
