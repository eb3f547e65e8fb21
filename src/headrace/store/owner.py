"""Which processes are alive: each holds a lock on a file of its own, and the system lets go of it when the process dies.

No heartbeat, no clock, no process number that another may inherit. Works within one machine.
"""

import contextlib
import os
import secrets
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> bool:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class Owner:
    """This user of the store, alive until `close` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.id = secrets.token_hex(8)
        self._file = os.open(folder / self.id, os.O_CREAT | os.O_RDWR, 0o600)
        _lock(self._file)

    def is_alive(self, owner: str) -> bool:
        return owner == self.id or is_alive(self._folder, owner)

    def close(self) -> None:
        (self._folder / self.id).unlink(missing_ok=True)
        os.close(self._file)


def folder_of(store: Path) -> Path:
    return store.with_name(store.name + ".owners")


def is_alive(folder: Path, owner: str) -> bool:
    """Whether this owner's process still holds its lock; forgets one that does not."""
    try:
        file = os.open(folder / owner, os.O_RDWR)
    except FileNotFoundError:
        return False
    except PermissionError:  # another user's: its lock cannot be tried
        return True
    try:
        dead = _lock(file)
        if dead:
            with contextlib.suppress(OSError):  # another was faster, or nothing may be removed here
                (folder / owner).unlink()
        return not dead
    finally:
        os.close(file)
