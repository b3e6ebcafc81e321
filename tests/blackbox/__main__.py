"""Long runs of the outside client, with progress: `make storm` and `make races`.

Exit code 1: a server broke its contract; the seed and the transcript are printed.
"""

import asyncio
import random
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.status import Status

from tests.blackbox.calls import connected
from tests.blackbox.hostile import Attack
from tests.blackbox.races import Tally, race, subscribe_at_an_interrupt, subscribe_at_the_start
from tests.blackbox.rules import ViolationError
from tests.blackbox.servers import Server
from tests.blackbox.storm import Storm, running
from tests.kit.postgres import Postgres, running_postgres

console = Console(highlight=False)
program = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
SHAPES = {"sqlite": 1, "postgres": 1, "postgres, two servers": 2}
REQUESTS_PER_SECOND = 50
"""For the hostile part: a number of requests, not a time, so that the seed repeats it."""

Act = Callable[[list[Server], Status], Awaitable[str]]


@program.command()
def storm(
    seconds: Annotated[float, typer.Option(help="How long, for each shape of servers.")] = 60,
    seed: Annotated[int, typer.Option(help="0: a new one each time.")] = 0,
) -> None:
    """Random chats, interrupted streams, killed servers; then hostile requests."""
    seed = seed or random.randrange(1, 10**6)
    console.print(f"seed {seed}, {seconds:.0f} s for each of {', '.join(SHAPES)}")

    async def rage(servers: list[Server], status: Status) -> str:
        def tell(it: Storm) -> None:
            status.update(f"storm, {counts(it.counted)}")

        it = Storm(servers, seed, seconds, told=tell)
        await it.rage()
        return f"storm: {counts(it.counted)}"

    async def attack(servers: list[Server], status: Status) -> str:
        def tell(it: Attack) -> None:
            status.update(f"hostile requests, {counts(it.counted)}")

        async with connected(servers[0]) as caller:
            it = Attack(servers[0], caller, seed, int(seconds * REQUESTS_PER_SECOND), told=tell)
            await it.run()
        return f"hostile requests: {counts(it.counted)}"

    finish(asyncio.run(on_each_shape([rage, attack])), seed)


@program.command()
def races(
    tries: Annotated[int, typer.Option(help="How many, of each program on each database.")] = 2000,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 1,
) -> None:
    """Streams that begin while a turn begins or is interrupted."""

    async def run(servers: list[Server], status: Status) -> str:
        lines = []
        failures: list[tuple[int, ViolationError]] = []
        for each in (subscribe_at_the_start, subscribe_at_an_interrupt):

            def tell(tally: Tally, name: str = each.__name__) -> None:
                status.update(f"{name}: {len(tally.failures)} of {tally.tries} tries failed")

            async with connected(servers[0]) as caller:
                tally = await race(each, caller, tries, seed, told=tell)
            failures += tally.failures
            lines += [f"  try {own}: {str(violation)[:90]}" for own, violation in tally.failures]
            lines.append(f"{each.__name__}: {len(tally.failures)} of {tally.tries} tries failed")
        if failures:
            _, violation = failures[0]
            violation.add_note("\n".join(lines))
            raise violation
        return "\n".join(lines)

    shapes = [shape for shape, servers in SHAPES.items() if servers == 1]
    finish(asyncio.run(on_each_shape([run], shapes)), seed)


async def on_each_shape(acts: Sequence[Act], shapes: Sequence[str] = tuple(SHAPES)) -> int:
    """Run everything on fresh servers of each shape; return the number of violations."""
    violations = 0
    with running_postgres() as postgres:
        for shape in shapes:
            for act in acts:
                violations += not await happens(act, shape, postgres)
    return violations


async def happens(act: Act, shape: str, postgres: Postgres) -> bool:
    """Run one part on fresh servers, and print its result."""
    url = "" if shape == "sqlite" else postgres.create_database()
    with (
        tempfile.TemporaryDirectory(prefix="chatd-storm-") as home,
        console.status(shape) as status,
    ):
        try:
            async with running(Path(home), [url] * SHAPES[shape]) as servers:
                console.print(f"[bold]{shape}[/]  {await act(servers, status)}", soft_wrap=True)
        except ViolationError as violation:
            console.print(f"[bold red]{shape}: {type(violation).__name__}[/]")
            for line in (str(violation), *getattr(violation, "__notes__", ())):
                console.print(line, markup=False, soft_wrap=True)
            return False
    return True


def counts(counted: dict[str, int]) -> str:
    """Format counts as one line."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counted.items()))


def finish(violations: int, seed: int) -> None:
    """Print the result, and exit."""
    if violations:
        console.print(f"[bold red]{violations} violations[/]; seed {seed}")
        raise typer.Exit(1)
    console.print(f"[bold green]no violation[/]; seed {seed}")


if __name__ == "__main__":
    program()
