"""Files that are written whole or not at all; what a killed writer left is removed by the next one."""

from __future__ import annotations

import errno
import glob
import os
import tempfile
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # as on Windows: there, what killed writers left stays
    LOCKS = False
else:
    LOCKS = True

__all__ = ("write_whole",)

SUFFIX = ".tmp"


def write_whole(path: str | os.PathLike[str], blob: bytes) -> None:
    """Write a file; whoever reads meanwhile, or after a crash, finds the old one or the new one.

    The bytes go to a file beside it first, which is locked for as long as its writer lives. Such files of the
    same name that nobody holds are removed. A symbolic link stays; what it names is written.

    Parameters
    ----------
    path : path-like
        The file; its folder is made if missing.
    blob : bytes
        What it is to hold.

    Raises
    ------
    OSError
        If it cannot be written; or is something else than a file, such as a device, which stays as it is.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "new" / "file", b"content")
    ...     [path.read_bytes() for path in Path(folder).rglob("file")]
    [b'content']
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "there is something else than a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    handle, name = _locked(path)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
            Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _locked(path: Path) -> tuple[int, str]:
    """Make a file beside `path`, locked: its descriptor and its name."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX)
        with suppress(OSError):  # no locks on this file system: then nobody gets one to remove it either
            if LOCKS:
                fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return handle, name
        os.close(handle)  # somebody removed it before it was locked


def _sweep(path: Path) -> None:
    """Remove the files that writers of `path` left who are gone."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????{SUFFIX}") if LOCKS else ():
        with suppress(OSError), left.open("rb") as file:  # locked, removed meanwhile, or not ours
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
