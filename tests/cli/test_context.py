"""`chatd compact` and `clear`, and the same at the prompt of `chatd chat`."""

import json
from pathlib import Path

from tests.cli.programs import PROGRAM, chatd, environment, serving
from tests.cli.terminals import CTRL_D, PROMPT, terminal

FAILED = 1


def test_a_context_is_summarised_and_cleared_from_the_command_line(tmp_path: Path) -> None:
    """Each says what came of it; with nothing to do, what to do instead."""
    with serving(tmp_path) as server:
        at = ["--address", server.address]
        sent = json.loads(chatd(tmp_path, "send", "!say Hello.", "--no-wait", "--json", *at).stdout)
        chat_id = sent["chat"]["chatId"]
        chatd(tmp_path, "tail", chat_id, "--until-settled", *at)
        done = chatd(tmp_path, "compact", chat_id, "--json", *at)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outcome"] == "COMPACTION_OUTCOME_DONE"
        again = chatd(tmp_path, "compact", chat_id, *at)
        assert again.returncode == FAILED
        assert "nothing to summarise" in again.stderr
        cleared = chatd(tmp_path, "clear", chat_id, *at)
        assert (cleared.returncode, "cleared" in cleared.stdout) == (0, True)
        shown = chatd(tmp_path, "tail", chat_id, "--until-settled", *at).stdout
        assert "here the context was summarised" in shown
        assert "Answers given" not in shown, "the summary is for the model"


def test_a_compaction_that_fails_says_why(tmp_path: Path) -> None:
    """As an exit code, too."""
    with serving(tmp_path) as server:
        at = ["--address", server.address]
        text = "!say Hello.\n!summary\n!error auth 9"
        sent = json.loads(chatd(tmp_path, "send", text, "--no-wait", "--json", *at).stdout)
        chat_id = sent["chat"]["chatId"]
        chatd(tmp_path, "tail", chat_id, "--until-settled", *at)
        failed = chatd(tmp_path, "compact", chat_id, *at)
        assert failed.returncode == FAILED
        assert "asked to fail with auth" in failed.stderr


def test_slash_commands_act_on_the_chat_at_the_prompt(tmp_path: Path) -> None:
    """Before there is a chat they say so."""
    with serving(tmp_path) as server:
        words = [*PROGRAM, "chat", "--address", server.address]
        with terminal(words, environment(tmp_path)) as seat:
            seat.until(PROMPT)
            seat.types(b"/compact\n")
            seat.until("there is no chat yet")
            seat.until(PROMPT)
            seat.types(b"!say Hello.\n")
            seat.until("Hello.")
            seat.until("Hello.")
            seat.until(PROMPT)
            seat.types(b"/compact\n")
            seat.until("the context was summarised")
            seat.until(PROMPT)
            seat.types(b"/clear\n")
            seat.until("the context was cleared")
            seat.until(PROMPT)
            seat.types(CTRL_D)
            assert seat.ends() == 0
