"""Which file is meant, and what its MP3 is called: paths come from a channel variable, so they are hostile input."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from arimonitor_runner.recordings import RecordingError

_PLAIN: Final = re.compile(r"(?P<stem>[A-Za-z0-9_][A-Za-z0-9_.,+=@-]{0,199})\.(?:wav|WAV)", re.ASCII)
"""No space, no quote, nothing that a shell, a URL or FTP's own commands could take for something else."""
_SHOWN_MAX: Final = 200


class PathRefusedError(RecordingError):
    """A path that leads where no recording may lie."""


def name_mp3(path: str) -> str:
    """What the MP3 of a recording is called; empty where its name is not plain."""
    plain = _PLAIN.fullmatch(path.replace("\\", "/").rpartition("/")[2])
    return f"{plain['stem']}.mp3" if plain is not None else ""


class Spool:
    """Where recordings are, as Asterisk says it and as they are found here."""

    def __init__(self, folders: Iterable[str | Path], path_map: Sequence[str] = ()) -> None:
        """Take the folders that recordings may lie in, and PREFIX=FOLDER of what is found elsewhere.

        Raises ValueError where an item of the map is none.
        """
        self.folders = [Path(folder) for folder in folders]
        self._map = [_parse(item) for item in path_map]

    def locate(self, path: str) -> Path:
        """The file that Asterisk calls so, with no symbolic link left in it; it need not exist. Asks the disk.

        Raises:
            PathRefusedError: it is refused, for good.
        """
        if not name_mp3(path):
            raise _refused(path, "its name is not plain")
        for prefix, folder in self._map:
            if path.startswith(prefix):
                path = folder + path.removeprefix(prefix)
                break
        if not path.startswith("/") or "\0" in path:
            raise _refused(path, "it is not absolute")
        try:
            found = Path(path).resolve()
            is_inside = any(found.is_relative_to(folder.resolve()) for folder in self.folders)
        except (OSError, RuntimeError, ValueError) as error:
            raise _refused(path, str(error)) from error
        if not is_inside or not name_mp3(found.name):
            raise _refused(path, "it lies outside of recordings.folders")
        return found


def _parse(item: str) -> tuple[str, str]:
    prefix, equals, folder = item.partition("=")
    if not equals or not prefix.startswith("/") or not folder.startswith("/"):
        raise ValueError(f"{item!r} is not PREFIX=FOLDER")
    return prefix.rstrip("/") + "/", folder.rstrip("/") + "/"


def _refused(path: str, reason: str) -> PathRefusedError:
    return PathRefusedError(f"refused: {reason}: {path[:_SHOWN_MAX]!r}", is_final=True)
