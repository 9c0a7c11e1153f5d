"""What moves files to audio servers, one object for each server."""

from __future__ import annotations

from arimonitor_runner.recordings import AudioServer
from arimonitor_runner.recordings.ftp import Ftp
from arimonitor_runner.recordings.ssh import Ssh


class Transports:
    """Makes them as they are needed, and keeps them with their connections."""

    def __init__(self) -> None:
        self._uploaders: dict[AudioServer, Ftp | Ssh] = {}

    def of(self, server: AudioServer) -> Ftp | Ssh:
        """The one for this server; another one where anything of the server was changed."""
        if server not in self._uploaders:
            self._uploaders[server] = Ssh(server) if server.transport == "ssh" else Ftp(server)
        return self._uploaders[server]

    async def close(self) -> None:
        """End all connections that are kept."""
        for uploader in self._uploaders.values():
            await uploader.close()
