"""What the desk needs of audio servers: which one takes a recording, and what moves files there."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from attrs import frozen

from arimonitor_core.directory import Client
from arimonitor_runner.recordings import AudioServer, Lame, Tags


class Servers(Protocol):
    """What is needed of `servers.AudioServers`."""

    def choose(self, client: Client | None, *, exclude: Collection[str] = ()) -> AudioServer | None:
        """The one that a client's next recording goes to (None: of no client); None: all are excluded by name."""
        ...

    def find(self, name: str) -> AudioServer | None:
        """The one of that name."""
        ...

    def failed(self, server: AudioServer, reason: str) -> None:
        """It did not do what it should."""
        ...

    def worked(self, server: AudioServer) -> None:
        """It did."""
        ...


class Transport(Protocol):
    """What moves files to one audio server."""

    async def upload(self, local: Path, name: str) -> int:
        """Store a file; gives its size there."""
        ...

    async def size(self, name: str) -> int | None:
        """The size of a file there; None: there is none."""
        ...


@runtime_checkable
class RemoteConverter(Protocol):
    """A transport to a server that has LAME."""

    async def upload_and_convert(self, wav: Path, name: str, tags: Tags, lame: Lame) -> int:
        """Store a WAV as an MP3; gives its size there."""
        ...


class Transports(Protocol):
    """What is needed of `transports.Transports`."""

    def of(self, server: AudioServer) -> Any:
        """The one for a server."""
        ...

    async def close(self) -> None:
        """End all connections."""
        ...


@frozen
class Audio:
    """The audio servers, and what moves files there."""

    servers: Servers
    transports: Transports
