"""Random messages for the sandbox model (docs/sandbox.md): every directive, every tool."""

import json
import random
from dataclasses import dataclass

CLIENT_TOOLS = ("get_weather", "ask_person")
MISTAKE = "I cannot read a line"
"""The start of the sandbox's answer to invalid directives: a mistake of this file."""

WORDS = (
    "Hello",
    "blåbær",
    "\N{PARTY POPPER}",
    "नमस्ते",
    "e\N{COMBINING ACUTE ACCENT}",
    "line",
    "漢字",
)
KINDS_RETRIED = ("overloaded", "rate_limit", "timeout", "stream_silence")
KINDS_FINAL = (
    "generic",
    "auth",
    "config",
    "usage_limit",
    "missing_key",
    "provider_disabled",
    "content_filter",
    "context_exceeded",
    "output_too_large",
    "worker_lost",
    "internal",
)
FINISHES = ("end_turn", "max_tokens", "refusal", "content_filter", "context_exceeded", "other")


@dataclass(frozen=True)
class Message:
    """The text to send, and whether its turn ends only by an interrupt."""

    text: str
    endless: bool = False


def message(rng: random.Random) -> Message:
    """Compose a turn of one to three answers."""
    if rng.random() < 0.08:
        return Message(words(rng))
    lines: list[str] = []
    endless = False
    for step in range(rng.randint(1, 3)):
        if step:
            lines.append("!step")
        lines += [_said(rng) for _ in range(rng.randint(0, 3))]
        if rng.random() < 0.2:
            lines.append(_trouble(rng))
            lines.append(_said(rng))
        going_on, endless_here = _end(rng)
        endless = endless or endless_here
        lines += going_on
        if not _goes_on(going_on):
            break
    return Message("\n".join(lines) or words(rng), endless)


def words(rng: random.Random) -> str:
    """Return a few words with characters of one to four bytes."""
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 6)))


def _said(rng: random.Random) -> str:
    pace = f" {rng.choice([40, 200, 1000])}/s" if rng.random() < 0.6 else ""
    return rng.choice(
        [
            f"!text {rng.randint(1, 40)}{pace}",
            f"!text {rng.randint(1, 40)}{pace}",
            f"!text {rng.choice([3000, 30000])}",
            f"!say {words(rng)}",
            f"!think {rng.randint(1, 20)}{pace}",
            "!think 0",
            f"!search {words(rng)}",
            f"!source https://example.com/{rng.randint(1, 9)} A source",
            "!file picture.png",
            "!note",
            f"!usage input={rng.randint(1, 999)} output={rng.randint(1, 99)} cost=3",
            "!usage none",
            f"!pace {rng.choice([50, 300])}/s",
            "!pace full",
            f"!stall {rng.choice([0.05, 0.3, 1.5])}",
            words(rng),
        ]
    )


def _trouble(rng: random.Random) -> str:
    after = rng.choice(["", " after=0.05", " after=0.3"])
    return rng.choice(
        [
            "!cut",
            f"!error {rng.choice(KINDS_RETRIED)} 1{after}",
            f"!error {rng.choice(KINDS_FINAL)} 1{after}",
            f"!error {rng.choice(KINDS_FINAL)} 1{after} retryable=yes",
            "!restart",
            "!context_too_long",
        ]
    )


def _end(rng: random.Random) -> tuple[list[str], bool]:
    """Return the last lines of an answer, and whether it has a tool that runs until stopped."""
    draw = rng.random()
    if draw < 0.6:
        calls = [_call(rng) for _ in range(rng.randint(1, 3))]
        return [line for line, _ in calls], any(endless for _, endless in calls)
    if draw < 0.7:
        return [f"!search_later {words(rng)}"], False
    if draw < 0.75:
        return ["!say One moment.", "!finish paused"], False
    if draw < 0.8:
        return [f"!refuse {words(rng)}"], False
    if draw < 0.9:
        return [f"!finish {rng.choice(FINISHES)}"], False
    return ["!say That is all."], False


def _goes_on(lines: list[str]) -> bool:
    """Return whether the model answers again, as `!step` requires."""
    return lines[-1].startswith(("!call", "!search_later", "!finish paused"))


def _call(rng: random.Random) -> tuple[str, bool]:
    seconds = rng.choice([0, 0.05, 0.4])
    wait = {"seconds": seconds}
    lookup = {"key": rng.choice("abc"), "seconds": seconds}
    fail = rng.choice(["error", "exception", "too_long", "hang", "stubborn"])
    name, arguments = rng.choice(
        [
            ("current_time", "{}"),
            ("current_time", '{"timezone": "Europe/Oslo"}'),
            ("current_time", '{"timez'),
            ("sandbox_wait", json.dumps(wait)),
            ("sandbox_wait", json.dumps(wait)),
            ("sandbox_lookup", json.dumps(lookup)),
            ("sandbox_lookup", json.dumps(lookup)),
            ("sandbox_fail", json.dumps({"kind": fail})),
            ("no_such_tool", "{}"),
            *((tool, json.dumps({"words": words(rng)})) for tool in CLIENT_TOOLS),
            *((tool, json.dumps({"words": words(rng)})) for tool in CLIENT_TOOLS),
        ]
    )
    endless = name == "sandbox_fail" and fail in {"hang", "stubborn"}
    return f"!call {name} {arguments}", endless
