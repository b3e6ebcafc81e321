"""The rows of a chat through SQLAlchemy's ORM, written without regard to cost."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import BigInteger, ForeignKey, LargeBinary, SmallInteger, Text, event, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ENGINE_CONNECTIONS = 16


class Base(DeclarativeBase):
    """The tables."""


class Chat(Base):
    """A chat."""

    __tablename__ = "chats"

    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(Text, unique=True)
    status: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(BigInteger)
    head_sequence: Mapped[int] = mapped_column(BigInteger)
    next_position: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[bytes] = mapped_column(LargeBinary)

    # The naive form of compare-and-set: the ORM adds it to each UPDATE.
    __mapper_args__ = {"version_id_col": revision, "version_id_generator": False}  # noqa: RUF012  SQLAlchemy's


class Message(Base):
    """A message."""

    __tablename__ = "messages"

    chat: Mapped[int] = mapped_column(ForeignKey("chats.id"), primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    uuid: Mapped[str] = mapped_column(Text, unique=True)
    role: Mapped[str] = mapped_column(Text)
    sequence: Mapped[int] = mapped_column(BigInteger)
    content_version: Mapped[int] = mapped_column(SmallInteger)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Event(Base):
    """An event."""

    __tablename__ = "events"

    chat: Mapped[int] = mapped_column(ForeignKey("chats.id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    kind: Mapped[int] = mapped_column(SmallInteger)
    at: Mapped[int] = mapped_column(BigInteger)
    position: Mapped[int | None] = mapped_column(BigInteger)
    content_version: Mapped[int] = mapped_column(SmallInteger)
    payload: Mapped[bytes | None] = mapped_column(LargeBinary)
    txid: Mapped[int] = mapped_column(BigInteger)


class Command(Base):
    """A command that was carried out."""

    __tablename__ = "commands"

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    chat: Mapped[int] = mapped_column(ForeignKey("chats.id"))
    sequence: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[int] = mapped_column(BigInteger)


class OrmDatabase:
    """An engine and its sessions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.session = async_sessionmaker(engine, expire_on_commit=False)

    async def add_chat(self, uuid: str) -> int:
        """Create a chat; return its row id."""
        async with self.session.begin() as session:
            chat = Chat(
                uuid=uuid,
                status="running",
                revision=1,
                head_sequence=0,
                next_position=1,
                updated_at=0,
                state=b"{}",
            )
            session.add(chat)
            await session.flush()
            return chat.id

    async def chat(self, session: AsyncSession, row_id: int) -> Chat:
        return (await session.execute(select(Chat).where(Chat.id == row_id))).scalar_one()


@asynccontextmanager
async def orm_database(url: str) -> AsyncIterator[OrmDatabase]:
    """Open a database, with new tables. The URL is SQLAlchemy's: sqlite+aiosqlite, +asyncpg."""
    is_sqlite = url.startswith("sqlite")
    sizes = {} if is_sqlite else {"pool_size": ENGINE_CONNECTIONS, "max_overflow": 0}
    engine = create_async_engine(url, **sizes)
    if is_sqlite:
        event.listen(engine.sync_engine, "connect", _durable)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield OrmDatabase(engine)
    finally:
        await engine.dispose()


def _durable(connection: object, record: object) -> None:  # noqa: ARG001  SQLAlchemy's
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA busy_timeout = 60000")
    cursor.close()
