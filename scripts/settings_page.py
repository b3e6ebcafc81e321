"""Writes docs/settings.md from the settings themselves and the exit codes of the command line."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "settings.md"

HEAD = """# Settings

<!-- Generated from the server's settings by `make docs`; edit server/chatd_server/config. -->

A setting is taken from the first of these that has it: a flag of `chatd serve`, the environment,
the settings file, its default. `chatd config show` prints every value and where it came from.

- Flag: `--log-level debug`. Not every setting has one; secrets never do.
- Environment: `CHATD_` and the name in capitals, `CHATD_LOG_LEVEL=debug`.
- File: TOML, `log_level = "debug"`; `chatd.toml` in the home folder, or what `--config` or
  `CHATD_CONFIG` names. An unknown name in it is an error; an unknown variable `CHATD_*` is a
  warning, in the log of the server and on standard error of the other commands.
- A secret can also be given by the name of a file that holds it: `CHATD_ANTHROPIC_API_KEY_FILE`,
  or `anthropic_api_key_file` in the settings file.

The home folder is `--home`, `CHATD_HOME` or `~/.local/share/chatd`. It holds `root.key` (the key
that the first start makes; only its owner can read it), `chatd.toml` if there is one, and
`chatd.db` unless `database_url` says otherwise.

`GRPC_VERBOSITY=error` (or `info`, `debug`) shows grpc's own log on standard error; `chatd` starts
without it.

## Keys

A key belongs to an owner, and an owner sees the chats of all its keys and no others.
`chatd keys create`, `list` and `revoke` work on the database itself and need no key.

`chatd keys create NAME` makes a key of the owner `root`, which sees the chats of the root key. For
a program or a person that shall see only its own chats, name an owner: `--owner ann`.

A home has a root key, of the owner `root`: the first start writes it to `root.key`, and each start
registers it in the database if it is not there. Homes that share a PostgreSQL register a root key
each, and all of them see the chats of `root`. The log says it (`root_key.registered`), and
`chatd keys list` names the host and the home of each: `root of HOST:/path/of/home` (keys of older
versions are just `root`). Servers that shall have the same root key share the file: copy it into
the other homes before their first start.

`chatd keys revoke` refuses to revoke a root key without `--force`. No start brings a revoked root
key back or makes another one: the server warns (`root_key.revoked`), and the commands of the home
say it. To get a new one, remove `root.key` from the home and start its server again.

## Which server a command talks to

The Python client and `chatd chat`, `send`, `edit`, `retry`, `fork`, `queue`, `tail`, `interrupt`,
`chats` and `health` have one rule: the address that they are given (`--address`), else
`CHATD_ADDRESS`, else `host` and `port` of the settings of the home (with their defaults). The key
is `--key`, else `CHATD_KEY`, else the `root.key` of the home. A key that is given but empty is
refused, so that a secret that did not arrive never becomes the root key. The root key of a home
is sent only to the address that the settings of this home name, or to one that you give. A server
that was started with another `--port` is not in the settings: give its address, or write `port`
into `chatd.toml`.

## Lists in a pipe

On a terminal lists are made for people. In a pipe each row is one line, without a head, with tabs
between the columns, moments in UTC (ISO 8601), and `-` where there is nothing:

- `chatd chats`: chat id, status, last change, title, model, labels (`name=value`, spaces between),
  creation;
- `chatd queue list`: message id, when it was sent, its text;
- `chatd keys list`: key id, creation, revocation, name, owner.

New columns may be added at the end. With `--json` the same facts have names.

## All settings

With PostgreSQL the home folder also holds `server-1.lock`, and one more for each further server of
this home that runs at the same time. A server locks its file for as long as it lives. When it was
killed, the next one that starts with this home knows by the lock that it is dead, and goes on with
its turns at once. This needs Linux, a home on a local file system (not NFS), the same name of the
host or container, the same `database_url`, and no reboot in between. In all other cases a turn of
a server that died goes on after at most `lease_seconds` + `poll_seconds`.

"""

EXITS = """
## Exit codes

| code | what it means |
|---|---|
| 0 | done; for `chatd serve`: it was told to stop and left in order |
"""

FAILURES = """
With `--json` a command that fails (codes 1 to 4) prints one JSON object on standard output, as its
last line, and nothing of it on standard error:

    {"error": {"reason": "MODEL_NOT_FOUND", "message": "...", "exit_code": 1}}

`reason` is stable: that of the server ([errors](errors.md)), `UNREACHABLE` where no server answers,
`TURN_FAILED` where the model gave no answer, the status that `chatd health` was told, else
`FAILED`, `USAGE`, `DATABASE` or `ADDRESS` for codes 1 to 4. `chatd health` has `address`, `status`
and `detail` next to `error`. Notes and warnings stay on standard error.
"""


def page() -> str:
    """Return what docs/settings.md has to be."""
    sys.path[:0] = [str(ROOT / "server"), str(ROOT / "gen" / "python")]
    from chatd_server.cli.exits import MEANINGS  # noqa: PLC0415  needs the path above
    from chatd_server.config.load import described_settings  # noqa: PLC0415  the same

    rows = ["| name | default | what it is | allowed |", "|---|---|---|---|"]
    for it in described_settings():
        default = "" if it.default in ("", {}) else f"`{str(it.default).lower()}`"
        secret = " Secret." if it.is_secret else ""
        allowed = it.allowed.replace("|", "\\|")
        rows.append(f"| `{it.name}` | {default} | {it.description}{secret} | {allowed} |")
    exits = [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    return HEAD + "\n".join(rows) + "\n" + EXITS + "\n".join(exits) + "\n" + FAILURES


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
