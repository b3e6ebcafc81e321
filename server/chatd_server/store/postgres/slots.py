"""Which server of this home a new one replaces, proven by a lock that died with its process.

Each server holds an flock on a file of its home for as long as it lives, and writes its name
there. A server that gets the lock knows that the server named in the file is dead: its leases are
void, and no chat has to wait for their end.

Why this proves a death: the kernel that keeps the lock is the one that kept it for the dead server
(same boot, and a file system whose locks no other machine manages), and the locked file is the very
file that it held open (device and inode are those that it wrote down; while it lives, no other file
can have both). A home on NFS, a copied home, another host or container name prove nothing: then a
lease ends by its time.
"""

import fcntl
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from chatd_server.domain.ids import WorkerId

SLOTS_MAX = 64
"""Servers of one home on one machine; more of them wait for leases to end."""
LOCAL_FILE_SYSTEMS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay"}
)
"""Their locks live in this kernel and nowhere else."""
_RECORD_BYTES_MAX = 4096


class Machine(msgspec.Struct, frozen=True):
    """Where a server runs: one boot of one kernel, under one name."""

    host: str
    #: Empty where the system does not tell: then nothing can be proven.
    boot_id: str
    local_file_systems: frozenset[str] = LOCAL_FILE_SYSTEMS


class _Record(msgspec.Struct, frozen=True):
    """The server that holds a slot."""

    worker_id: WorkerId
    database: str
    host: str
    boot_id: str
    device: int
    inode: int


class Slots:
    """The slots of a home that this server holds locked: its own, and those of dead servers."""

    def __init__(self, home: Path, database: str, machine: Machine | None = None) -> None:
        """Lock one slot and those of all dead servers of this database. Where no file can be
        locked, there is none. `database` names the database in the file of the slot.
        """
        self._database = database
        self._machine = this_machine() if machine is None else machine
        #: The file of this server, or None.
        self._own: int | None = None
        self._others: list[int] = []
        dead: list[WorkerId] = []
        with suppress(OSError):
            for file, record in self._free(home):
                dead += self._proven(file, record)
                if self._own is None:
                    self._own = file
                else:
                    self._others.append(file)
        self.dead: Sequence[WorkerId] = dead

    def take(self, worker_id: WorkerId) -> None:
        """Write this server into its slot, before it holds any lease, and forget the dead: their
        leases are void by now.
        """
        with suppress(OSError):
            if self._own is not None:
                found = os.fstat(self._own)
                record = _Record(
                    worker_id,
                    self._database,
                    self._machine.host,
                    self._machine.boot_id,
                    found.st_dev,
                    found.st_ino,
                )
                os.ftruncate(self._own, 0)
                os.pwrite(self._own, msgspec.json.encode(record) + b"\n", 0)
            for file in self._others:
                os.ftruncate(file, 0)
        self._release_others()

    def release(self) -> None:
        """Release the locks, after the last lease. The files stay: to remove one is a race."""
        self._release_others()
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _release_others(self) -> None:
        while self._others:
            os.close(self._others.pop())

    def _free(self, home: Path) -> Iterator[tuple[int, _Record | None]]:
        """Yield the slots that can be locked and are not of another database, with their records;
        a new one only when there is no other.
        """
        found = False
        for number in range(1, SLOTS_MAX + 1):
            path = home / f"server-{number}.lock"
            if found and not path.exists():
                continue
            file = _locked(path)
            if file is None:
                continue
            record = _read(file)
            if record is not None and record.database != self._database:
                os.close(file)
                continue
            found = True
            yield file, record

    def _proven(self, file: int, record: _Record | None) -> Sequence[WorkerId]:
        """Return the worker of the record if the lock proves that it is dead."""
        if record is None or not self._machine.boot_id:
            return ()
        status = os.fstat(file)
        written = (record.host, record.boot_id, record.device, record.inode)
        here = (self._machine.host, self._machine.boot_id, status.st_dev, status.st_ino)
        if written != here or _file_system(file) not in self._machine.local_file_systems:
            return ()
        return (record.worker_id,)


def this_machine() -> Machine:
    """Return where this process runs."""
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot_id = ""
    return Machine(socket.gethostname(), boot_id)


def _locked(path: Path) -> int | None:
    """Return the file with its lock; None when another process has it. Raises OSError where a file
    cannot be locked at all.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    except OSError:
        os.close(file)
        raise
    return file


def _read(file: int) -> _Record | None:
    try:
        return msgspec.json.decode(os.pread(file, _RECORD_BYTES_MAX, 0), type=_Record)
    except msgspec.MsgspecError:
        # New, or cut: its server died before it held a lease.
        return None


def _file_system(file: int) -> str:
    """Return the type of the file system that an open file is on; empty if unknown."""
    try:
        about = Path(f"/proc/self/fdinfo/{file}").read_text(encoding="ascii")
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    mount = next((it.split()[1] for it in about.splitlines() if it.startswith("mnt_id:")), None)
    for line in mounts.splitlines():
        fields, _, kind = line.partition(" - ")
        if fields.split()[0] == mount:
            return kind.split()[0]
    return ""
