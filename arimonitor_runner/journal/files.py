"""What the journal does with files, in one object: a simulation of crashes and full disks puts its own in its place."""

from __future__ import annotations

import os
from pathlib import Path


class FileOperations:
    """The operating system's. Every method raises OSError."""

    def make_folder(self, folder: Path) -> None:
        """Make a folder where there is none; call data is nobody else's business."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, path: Path) -> int:
        """Make a new file and open it for appending; it must not exist."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: bytes) -> None:
        """Append all of the data; where it fails, some of it may have been written."""
        written = os.write(descriptor, data)
        while written < len(data):  # a disk that fills up, or a signal
            written += os.write(descriptor, data[written:])

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut a file."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Force a file's contents, and its size, to disk."""
        os.fdatasync(descriptor)

    def sync_file(self, path: Path) -> None:
        """Force to disk what another process wrote."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Force a folder's entries to disk: that a file is there, and under this name."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a file."""
        os.close(descriptor)

    def rename(self, path: Path, target: Path) -> None:
        """Rename a file; one that has the name already is replaced."""
        path.replace(target)

    def remove(self, path: Path) -> None:
        """Remove a file."""
        path.unlink()


FILE_OPERATIONS = FileOperations()


def set_aside(path: Path, files: FileOperations = FILE_OPERATIONS) -> Path:
    """Rename a file that cannot be used to `<name>.bad`, or `.bad2` and so on where there is one; returns its new path.

    Raises OSError.
    """
    target = path.with_name(f"{path.name}.bad")
    number = 1
    while target.exists():
        number += 1
        target = path.with_name(f"{path.name}.bad{number}")
    files.rename(path, target)
    return target
