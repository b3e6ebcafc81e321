"""The sandbox's own texts: an echo, a summary of results, an error message."""

import re
from collections.abc import Sequence

from chatd_server.domain.live import PieceKind
from chatd_server.domain.message import File, FileReference, Message, Part, Text, ToolResult
from chatd_server.ports.tools import ToolSpec
from chatd_server.providers.sandbox.directives import DIRECTIVES
from chatd_server.providers.sandbox.grammar import PROBLEMS_MAX
from chatd_server.providers.sandbox.plan import Answer, Problem, Speak

QUOTED_CHARACTERS_MAX = 200
"""How much of a result or an invalid line is quoted."""
SUMMARISED_CHARACTERS_MAX = 16_384
"""A longer message is not repeated in a summary, or the context would stay as long as it is."""
TITLE_WORDS = 4
"""How many words of a conversation are in its title."""
LOOKED_AT_CHARACTERS_MAX = 10 * QUOTED_CHARACTERS_MAX
"""A result may have 512 KiB; only its beginning is searched for the quotation."""


def said(message: Message | None) -> str:
    """Return the text of a message, line by line; of a summary, what it says was asked."""
    if message is not None and message.summary_for is not None:
        summarised = _summarised(message)
        return "" if summarised is None else summarised["asked"]
    return _text(message)


def already_given(message: Message) -> int:
    """Return how many answers a summary counts; 0 for every other message."""
    summarised = None if message.summary_for is None else _summarised(message)
    return 0 if summarised is None else int(summarised["given"])


def summary_of(asked: Message | None, given: int) -> Answer:
    """Summarise a conversation so that the sandbox can go on with it."""
    text = said(asked)
    if len(text) > SUMMARISED_CHARACTERS_MAX:
        text = ""
    return _speech([_SUMMARY.format(given), text])


def title_of(asked: Message | None) -> Answer:
    """Name the words that a quoted conversation begins with."""
    begins = said(asked)[:LOOKED_AT_CHARACTERS_MAX].partition("\n")[0]
    words = begins.removeprefix("User: ").split()[:TITLE_WORDS]
    return _speech([f"About {' '.join(words)}"])


def go_on() -> Answer:
    """Answer a summary that does not say what was asked."""
    return _speech(["I go on from the summary."])


_SUMMARY = "Answers given to the newest message of the user so far: {}. It is:"
_SUMMARISED = re.compile(_SUMMARY.format(r"(?P<given>[0-9]{1,9})") + r"\n(?P<asked>.*)", re.DOTALL)


def _summarised(summary: Message) -> re.Match[str] | None:
    return _SUMMARISED.search(_text(summary))


def _text(message: Message | None) -> str:
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
