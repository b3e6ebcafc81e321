"""The sandbox's own texts: an echo, a summary of results, an error message."""

from collections.abc import Sequence

from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import File, FileReference, Message, Part, Text, ToolResult
from chatd_server.ports.tools import ToolSpec
from chatd_server.providers.sandbox.directives import DIRECTIVES
from chatd_server.providers.sandbox.grammar import PROBLEMS_MAX
from chatd_server.providers.sandbox.plan import Answer, Problem, Speak

QUOTED_CHARACTERS_MAX = 200
"""How much of a result or an invalid line is quoted."""
LOOKED_AT_CHARACTERS_MAX = 10 * QUOTED_CHARACTERS_MAX
"""A result may have 512 KiB; only its beginning is searched for the quotation."""


def said(message: Message | None) -> str:
    """Return the text of a message, line by line."""
    return "\n".join(part.text for part in _parts(message) if isinstance(part, Text))


def echo(message: Message | None, tools: Sequence[ToolSpec]) -> Answer:
    """Repeat the user's message and list the directives."""
    attached = [name for part in _parts(message) if (name := _attachment(part))]
    lines = [f"You said: {said(message) or '(nothing)'}"]
    if attached:
        lines.append(f"You attached: {', '.join(attached)}")
    lines += [
        "",
        "I am the sandbox. I follow the directives in a message, always in the same way.",
        "Write one directive per line:",
        "",
        *_directives(),
    ]
    if tools:
        lines += ["", f"Tools of this chat: {', '.join(tool.name for tool in tools)}"]
    return _speech(lines)


def summary(results: Sequence[ToolResult]) -> Answer:
    """List the results of the tools."""
    if not results:
        return _speech(["Your message plans no further answer."])
    heads = {True: "The tool gave a result:", False: f"The tools gave {len(results)} results:"}
    return _speech([heads[len(results) == 1], *map(_result, results)])


def complaint(problems: Sequence[Problem]) -> Answer:
    """List the lines that cannot be read, with advice for each."""
    lines = [f"I cannot read {_count(problems)} of your message, so I did nothing."]
    for problem in problems[:PROBLEMS_MAX]:
        lines += ["", f"Line {problem.line}: {_shortened(problem.text)}", f"  {problem.advice}"]
    return _speech(lines)


def _count(problems: Sequence[Problem]) -> str:
    if len(problems) > PROBLEMS_MAX:
        return f"more than {PROBLEMS_MAX} lines"
    return "a line" if len(problems) == 1 else f"{len(problems)} lines"


def _directives() -> list[str]:
    width = 22
    return [
        f"{directive.usage.ljust(width)} {directive.meaning}"
        if len(directive.usage) <= width
        else f"{directive.usage}\n{' ' * width} {directive.meaning}"
        for directive in DIRECTIVES
    ]


def _speech(lines: Sequence[str]) -> Answer:
    return Answer((Speak(PieceKind.TEXT, "\n".join(lines)),))


def _parts(message: Message | None) -> Sequence[Part]:
    return message.parts if message is not None else ()


def _attachment(part: Part) -> str:
    return part.file_name or "a file" if isinstance(part, File | FileReference) else ""


def _result(result: ToolResult) -> str:
    state = f" failed ({result.error})" if result.error else ""
    return f"- {result.name}{state}: {_shortened(result.output)}"


def _shortened(text: str) -> str:
    line = " ".join(text[:LOOKED_AT_CHARACTERS_MAX].split())
    if len(line) <= QUOTED_CHARACTERS_MAX and len(text) <= LOOKED_AT_CHARACTERS_MAX:
        return line
    return line[:QUOTED_CHARACTERS_MAX] + "…"
