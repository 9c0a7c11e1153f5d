"""Files to an audio server over SSH: the MP3 by SFTP, or the WAV and LAME there.

The host must be known: a server whose key is not in `known_hosts` is not spoken to. A file is written under a temporary
name beside its own, looked at, and renamed over whatever was there. One connection is kept for each server; files go
over it side by side.
"""

from __future__ import annotations

import asyncio
import posixpath
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncssh
from attrs import frozen

from arimonitor_runner.recordings import AudioServer, Lame, RecordingError, Tags, check_name, mp3
from arimonitor_runner.recordings.lame import LOCALE, arguments, check_source, last_words

PART_SUFFIX = ".part"
BLOCK_BYTES = 2**18

_KEEPALIVE_S = 15.0
_FAULTS = (asyncssh.Error, OSError, ValueError)


@frozen(kw_only=True)
class _Session:
    """One connection and what is done over it."""

    connection: asyncssh.SSHClientConnection
    sftp: asyncssh.SFTPClient


class Ssh:
    """One audio server; at most `channels_max` files are on their way to it."""

    def __init__(self, server: AudioServer) -> None:
        self._server = server
        self._room = asyncio.Semaphore(server.channels_max)
        self._connecting = asyncio.Lock()
        self._kept: _Session | None = None

    async def upload(self, local: Path, name: str) -> int:
        """Store a file under a name, in place of what has this name there, and give its size there, in bytes.

        Raises:
            RecordingError: it did not work; `is_server` where the server is at fault.
        """
        check_name(name)
        async with self._session() as session, self._part(session, name) as part:
            size = await self._send(session, local, part)
            await self._rename(session, part, self._path(name))
        return size

    async def upload_and_convert(self, wav: Path, name: str, tags: Tags, lame: Lame) -> int:
        """Send a WAV that is finished, make an MP3 of it there under a name, and give that one's size, in bytes.

        The WAV there is removed, whatever happens. The MP3 is looked at from here: as long as its WAV, or an error.

        Raises:
            RecordingError: it did not work; final where this WAV can never be converted.
        """
        check_name(name)
        seconds = await asyncio.to_thread(check_source, wav)
        async with self._session() as session, self._part(session, f"{name}.wav") as source:
            await self._send(session, wav, source)
            async with self._part(session, name) as part:
                await self._convert(session, source, part, tags, lame)
                size = await self._check(session, part, seconds)
                await self._rename(session, part, self._path(name))
        return size

    async def size(self, name: str) -> int | None:
        """How large a file is there, in bytes; None: there is no such file.

        Raises:
            RecordingError: the server did not say.
        """
        check_name(name)
        async with self._session() as session:
            try:
                return await self._size(session, self._path(name))
            except asyncssh.SFTPNoSuchFile:
                return None

    async def close(self) -> None:
        """End the connection."""
        session, self._kept = self._kept, None
        if session is not None:
            session.connection.abort()
            await session.connection.wait_closed()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[_Session]:
        """The connection, made anew where it is gone. Faults become errors of ours, and end it where it is broken."""
        async with self._room:
            try:
                yield await self._find_session()
            except RecordingError:
                raise
            except asyncssh.HostKeyNotVerifiable as error:
                raise self._fault(f"its host key is not in known_hosts: {error.reason}") from error
            except (asyncssh.SFTPError, asyncssh.PermissionDenied) as error:
                raise self._fault(error.reason) from error
            except TimeoutError as error:
                # It may stand still for ever.
                await self.close()
                raise self._fault("it does not answer in time") from error
            except _FAULTS as error:
                await self.close()
                raise self._fault(str(error) or type(error).__name__) from error

    async def _find_session(self) -> _Session:
        async with self._connecting:
            if self._kept is None or self._kept.connection.is_closed():
                async with asyncio.timeout(self._server.connect_timeout_s):
                    self._kept = await self._connect()
            return self._kept

    async def _connect(self) -> _Session:
        server = self._server
        options: dict[str, Any] = {} if server.known_hosts is None else {"known_hosts": str(server.known_hosts)}
        if server.key_file is not None:
            options |= {"client_keys": [str(server.key_file)], "agent_path": None}
        elif server.password:
            options |= {"password": server.password, "client_keys": None, "agent_path": None}
        connection = await asyncssh.connect(
            server.host,
            server.port,
            username=server.user,
            # Nothing of what the user's own ssh is told.
            config=None,
            keepalive_interval=_KEEPALIVE_S,
            **options,
        )
        try:
            sftp = await connection.start_sftp_client()
            if server.folder:
                await sftp.makedirs(self._folder(), exist_ok=True)
        except BaseException:
            connection.abort()
            await connection.wait_closed()
            raise
        return _Session(connection=connection, sftp=sftp)

    def _fault(self, text: str) -> RecordingError:
        server = self._server
        return RecordingError(f"{server.name} (ssh://{server.host}:{server.port}): {text}", is_server=True)

    def _folder(self) -> str:
        """The folder; it begins with a dot or a slash, so that no program takes it for an option."""
        folder = self._server.folder
        return folder if folder.startswith("/") else f"./{folder}"

    def _path(self, name: str) -> str:
        return posixpath.join(self._folder(), name)

    @asynccontextmanager
    async def _part(self, session: _Session, name: str) -> AsyncIterator[str]:
        """A temporary name, under which nothing is left where the server still listens."""
        part = self._path(name) + PART_SUFFIX
        try:
            yield part
        finally:
            with suppress(*_FAULTS):
                async with asyncio.timeout(1):
                    await session.sftp.remove(part)

    async def _send(self, session: _Session, local: Path, path: str) -> int:
        """Send a file, have it forced to disk and its size checked."""
        try:
            file = await asyncio.to_thread(local.open, "rb")
        except OSError as error:
            raise RecordingError(f"{local} cannot be read: {error.strerror}") from error
        sent = 0
        with file:
            async with self._in_time():
                remote = await session.sftp.open(path, "wb")
            try:
                while block := await asyncio.to_thread(file.read, BLOCK_BYTES):
                    async with self._in_time():
                        await remote.write(block)
                    sent += len(block)
                with suppress(asyncssh.SFTPOpUnsupported):
                    async with self._in_time():
                        await remote.fsync()
            finally:
                async with self._in_time():
                    await remote.close()
        arrived = await self._size(session, path)
        if arrived != sent:
            raise self._fault(f"{path}: {sent} bytes were sent, {arrived} arrived")
        return sent

    async def _convert(self, session: _Session, source: str, part: str, tags: Tags, lame: Lame) -> None:
        """Run LAME there. Its command is one line for a shell, in which every word is quoted."""
        # One that nobody could end may still be writing there: it goes on into a file without a name.
        with suppress(asyncssh.SFTPNoSuchFile):
            async with self._in_time():
                await session.sftp.remove(part)
        # Ended there as well: who lost the connection to it cannot end it.
        words = ["env", f"LC_ALL={LOCALE}", "timeout", f"{lame.timeout_s:g}", "nice", "-n", str(lame.nice)]
        words += [self._server.lame, *arguments(tags, lame), source, part]
        async with asyncio.timeout(lame.timeout_s + self._server.transfer_timeout_s):
            done = await session.connection.run(shlex.join(words), stdin=asyncssh.DEVNULL, encoding=None)
        if done.exit_status != 0:
            said = done.stderr if isinstance(done.stderr, bytes) else b""
            raise self._fault(f"{self._server.lame} failed ({done.exit_status}): {last_words(said)}")

    async def _check(self, session: _Session, part: str, seconds: float) -> int:
        """See that an MP3 is as long as its WAV; its size."""
        async with self._in_time(), session.sftp.open(part, "rb") as file:
            head = await file.read(mp3.HEAD_BYTES, 0)
        assert isinstance(head, bytes)  # noqa: S101  # of a file that was opened as such
        size = await self._size(session, part)
        try:
            mp3.check_length(head, size, seconds)
        except ValueError as error:
            raise self._fault(f"LAME made no good MP3: {error}") from error
        return size

    async def _size(self, session: _Session, path: str) -> int:
        async with self._in_time():
            return (await session.sftp.stat(path)).size or 0

    async def _rename(self, session: _Session, part: str, path: str) -> None:
        async with self._in_time():
            await session.sftp.posix_rename(part, path)

    def _in_time(self) -> asyncio.Timeout:
        return asyncio.timeout(self._server.transfer_timeout_s)
