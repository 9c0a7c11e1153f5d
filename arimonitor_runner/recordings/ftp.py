"""Files to an audio server over FTP, or over FTP with TLS (`AUTH TLS` on the usual port).

A file is written under a temporary name beside its own, its size is asked for, and then it is renamed over whatever was
there. So under its name there is a whole file or none, whatever ends before: we, the network, or the server.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aioftp
from aioftp.common import SSLSessionBoundContext

from arimonitor_runner.recordings import AudioServer, RecordingError, check_name

PART_SUFFIX = ".part"
"""Of a file that is on its way. No dot in front: many an FTP server refuses names that begin with one."""
BLOCK_BYTES = 2**18
IDLE_S = 60.0
"""A connection that nobody needed for so long is given up."""
ASK_AFTER_S = 5.0
"""A connection that was idle for so long is asked whether the server still listens; no server gives one up sooner."""

_FAULTS = (aioftp.AIOFTPException, OSError, ValueError, IndexError, EOFError)
"""What aioftp raises when the server or the network fails, or when an answer makes no sense."""

Reader = Callable[[int], bytes]


class Ftp:
    """One audio server, with at most `channels_max` connections to it.

    They are kept for a while: a login may cost the server seconds, since some hash passwords as slowly as they can.
    """

    def __init__(self, server: AudioServer) -> None:
        self._server = server
        self._room = asyncio.Semaphore(server.channels_max)
        self._context: ssl.SSLContext | None = None
        self._idle: dict[aioftp.Client, asyncio.TimerHandle] = {}
        """With what gives them up."""

    async def upload(self, local: Path, name: str) -> int:
        """Store a file under a name, in place of what has this name there, and give its size there, in bytes.

        Raises:
            RecordingError: it did not work; `is_server` where the server is at fault.
        """
        check_name(name)
        try:
            file = await asyncio.to_thread(local.open, "rb")
        except OSError as error:
            raise RecordingError(f"{local} cannot be read: {error.strerror}") from error
        with file:
            bytes_here = file.seek(0, 2)
            async with self._session() as client:
                part = name + PART_SUFFIX
                try:
                    file.seek(0)
                    await self._store(client, file.read, part)
                    bytes_there = await self._size(client, part)
                    if bytes_there != bytes_here:
                        raise self._fault(f"{name}: {bytes_here} bytes were sent, {bytes_there} arrived")
                except BaseException:
                    await _remove(client, part)
                    raise
                await self._rename(client, part, name)
            return bytes_here

    async def size(self, name: str) -> int | None:
        """How large a file is there, in bytes; None: there is no such file.

        Raises:
            RecordingError: the server did not say.
        """
        check_name(name)
        async with self._session() as client:
            return await self._size(client, name)

    async def close(self) -> None:
        """Give up the connections that nobody uses."""
        while self._idle:
            client, timer = self._idle.popitem()
            timer.cancel()
            await _drop(client)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aioftp.Client]:
        """A connection that stands in the folder. Faults of it, and of what is done with it, become errors of ours."""
        async with self._room:
            client: aioftp.Client | None = None
            try:
                client = await self._find_idle() or await self._connect()
                yield client
                self._keep(client)
                client = None
            except aioftp.StatusCodeError as error:
                raise self._fault(_words(error)) from error
            except TimeoutError as error:
                raise self._fault("it does not answer in time") from error
            except _FAULTS as error:
                raise self._fault(str(error) or type(error).__name__) from error
            finally:
                if client is not None:
                    await _drop(client)

    async def _connect(self) -> aioftp.Client:
        server = self._server
        # It has no time limits of its own: in Python 3.11 those may lose a cancellation that comes with an answer.
        client = aioftp.Client(socket_timeout=None, connection_timeout=None)
        try:
            async with asyncio.timeout(server.connect_timeout_s):
                await client.connect(server.host, server.port)
                if server.transport == "ftps":
                    self._context = self._context or await asyncio.to_thread(_make_context, server)
                    await client.upgrade_to_tls(self._context)
                await client.login(server.user, server.password)
                await client.command("TYPE I", "200")
                await self._enter_folder(client)
        except BaseException:
            await _drop(client)
            raise
        return client

    async def _find_idle(self) -> aioftp.Client | None:
        """A kept connection that the server has not given up meanwhile."""
        while self._idle:
            client, timer = self._idle.popitem()
            timer.cancel()
            idle_s = IDLE_S - (timer.when() - asyncio.get_running_loop().time())
            if await self._is_open(client, idle_s):
                return client
            await _drop(client)
        return None

    async def _is_open(self, client: aioftp.Client, idle_s: float) -> bool:
        stream = client.stream
        if stream.writer.is_closing() or stream.reader.at_eof():
            return False
        if idle_s < ASK_AFTER_S:
            return True
        try:
            async with asyncio.timeout(self._server.connect_timeout_s):
                await client.command("NOOP", "2xx")
        except _FAULTS:
            return False
        except BaseException:
            await _drop(client)
            raise
        return True

    def _keep(self, client: aioftp.Client) -> None:
        self._idle[client] = asyncio.get_running_loop().call_later(IDLE_S, self._expire, client)

    def _expire(self, client: aioftp.Client) -> None:
        del self._idle[client]
        client.stream.writer.transport.abort()

    def _fault(self, text: str) -> RecordingError:
        server = self._server
        return RecordingError(
            f"{server.name} ({server.transport}://{server.host}:{server.port}): {text}", is_server=True
        )

    async def _enter_folder(self, client: aioftp.Client) -> None:
        """Change to the server's folder; make it where it is missing."""
        folder = self._server.folder
        if not folder:
            return
        try:
            await client.command(f"CWD {folder}", "2xx")
        except aioftp.StatusCodeError:
            made = "/" if folder.startswith("/") else ""
            for level in filter(None, folder.split("/")):
                made += level + "/"
                # It may be there already, and no server says so in the same way.
                await client.command(f"MKD {made.rstrip('/')}", ("2xx", "5xx"))
            await client.command(f"CWD {folder}", "2xx")

    async def _ask(
        self, client: aioftp.Client, command: str | None, expected: str, preliminary: tuple[str, ...] = ()
    ) -> str:
        """Send a command, or none, and wait for the answer that ends it; gives its last line."""
        async with asyncio.timeout(self._server.transfer_timeout_s):
            _, lines = await client.command(command, expected, preliminary)
        return lines[-1]

    async def _store(self, client: aioftp.Client, read: Reader, name: str) -> None:
        """Send a file's content."""
        writer = await self._open_data(client)
        broken: Exception | None = None
        try:
            await self._ask(client, f"STOR {name}", "1xx")
            await self._secure_data(client, writer)
            try:
                async for block in _blocks(read):
                    writer.write(block)
                    async with asyncio.timeout(self._server.transfer_timeout_s):
                        await writer.drain()
                writer.close()
                async with asyncio.timeout(self._server.transfer_timeout_s):
                    await writer.wait_closed()
            except ConnectionError as error:
                # The server closed it. Why, it says where commands are answered.
                broken = error
        finally:
            writer.transport.abort()
        await self._ask(client, None, "2xx", ("1xx",))
        if broken is not None:
            raise broken

    async def _open_data(self, client: aioftp.Client) -> asyncio.StreamWriter:
        """Open a connection for one file, to where the other one goes: a server behind NAT does not know better."""
        try:
            _, port = client.parse_epsv_response(await self._ask(client, "EPSV", "229"))
        except aioftp.StatusCodeError:
            _, port = client.parse_pasv_response(await self._ask(client, "PASV", "227"))
        host = client.stream.writer.get_extra_info("peername")[0]
        async with asyncio.timeout(self._server.connect_timeout_s):
            _, writer = await asyncio.open_connection(host, port)
        return writer

    async def _secure_data(self, client: aioftp.Client, writer: asyncio.StreamWriter) -> None:
        """TLS for a file, where the commands have it.

        Servers begin with it after the command, so aioftp's own connections, which are secured before, wait for ever.
        Many a server wants to see the session of the commands again.
        """
        control = client.stream.writer.get_extra_info("ssl_object")
        if control is None:
            return
        context = SSLSessionBoundContext(ssl.PROTOCOL_TLS_CLIENT, context=control.context, session=control.session)
        async with asyncio.timeout(self._server.connect_timeout_s):
            await writer.start_tls(context, server_hostname=self._server.host)

    async def _size(self, client: aioftp.Client, name: str) -> int | None:
        try:
            return int(await self._ask(client, f"SIZE {name}", "213"))
        except aioftp.StatusCodeError as error:
            code = error.received_codes[-1]
            if code.matches("50x"):
                async with asyncio.timeout(self._server.transfer_timeout_s):
                    return int((await client.stat(name))["size"]) if await client.exists(name) else None
            if code.matches("550"):
                return None
            raise

    async def _rename(self, client: aioftp.Client, part: str, name: str) -> None:
        try:
            await self._ask(client, f"RNFR {part}", "350")
            await self._ask(client, f"RNTO {name}", "2xx")
        except aioftp.StatusCodeError:
            # Some servers do not rename over what is there.
            with suppress(aioftp.StatusCodeError):
                await self._ask(client, f"DELE {name}", "2xx")
            await self._ask(client, f"RNFR {part}", "350")
            await self._ask(client, f"RNTO {name}", "2xx")


async def _remove(client: aioftp.Client, part: str) -> None:
    """Remove what came of an upload that failed, where the server still listens; the next one overwrites it."""
    if client.stream.writer.is_closing():
        return
    with suppress(*_FAULTS):
        async with asyncio.timeout(1):
            await client.command(f"DELE {part}", "2xx")


async def _drop(client: aioftp.Client) -> None:
    """End a connection, if it was ever open. Nothing of ours is lost with it, so nobody waits for the server."""
    with suppress(*_FAULTS):
        client.stream.writer.transport.abort()
        await client.stream.writer.wait_closed()


async def _blocks(read: Reader) -> AsyncIterator[bytes]:
    """A file's content, read off the event loop."""
    while block := await asyncio.to_thread(read, BLOCK_BYTES):
        yield block


def _make_context(server: AudioServer) -> ssl.SSLContext:
    """What certificates are taken. Reads those of the system, which takes a while."""
    context = ssl.create_default_context(cafile=server.ca_file)
    if not server.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _words(error: aioftp.StatusCodeError) -> str:
    """The server's own words, on one line, with their code."""
    text = " ".join(line.strip(" -") for line in error.info) if not isinstance(error.info, str) else error.info
    return f"it says {error.received_codes[-1]} {' '.join(text.split())[:300]}"
