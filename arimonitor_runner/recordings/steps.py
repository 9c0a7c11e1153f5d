"""One recording, step by step: found, finished, converted, uploaded, verified, published; or given up, with a reason.

Each step is in the ledger before the next one begins, so after a crash each recording goes on where it was, and a step
that was interrupted is done again from its beginning. What goes wrong is tried again, with growing pauses and on
another server, until it is given up and said so.

Any number of recordings may be on their way. What costs a processor, LAME, has as many places as there are workers;
while one recording is hashed, uploaded and verified, the next one has its place.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import structlog
from attrs import define

from arimonitor_core.directory import Client, Directory
from arimonitor_runner.recordings import AudioServer, Lame, RecordingError, Tags, lame, wav
from arimonitor_runner.recordings.audio import Audio, RemoteConverter, Transport
from arimonitor_runner.recordings.ledger import Entry, Ledger
from arimonitor_runner.recordings.names import PathRefusedError, Spool
from arimonitor_runner.recordings.retention import mp3_of
from arimonitor_runner.settings import RecordingsSettings
from arimonitor_runner.sinks import StoredMessage

_REDONE = {"finished": "found"}
"""Where a step that failed begins anew: a file may have vanished or changed before it was converted."""

_T = TypeVar("_T")

_log = structlog.get_logger()


@define
class Counts:
    """What happened since the start."""

    stored: int = 0
    given_up: int = 0
    failures: int = 0
    """Attempts that failed."""
    refused: int = 0
    """Paths that lead where no recording may lie."""


class Steps:
    """Takes recordings through their steps."""

    def __init__(  # the parts are joined here
        self,
        ledger: Ledger,
        settings: RecordingsSettings,
        *,
        directory: Directory,
        audio: Audio,
        spool: Spool,
        offer: Callable[[Sequence[StoredMessage]], None],
        clock: Callable[[], float],
    ) -> None:
        """Join the parts; what they are says the desk."""
        self._ledger = ledger
        self._settings = settings
        self.directory = directory
        self._servers = audio.servers
        self._transports = audio.transports
        self._spool = spool
        self._offer = offer
        self._clock = clock
        self._lame = Lame(
            program=settings.lame,
            bitrate_kbit_s=settings.bitrate_kbit_s,
            nice=settings.nice,
            timeout_s=settings.lame_timeout_s,
        )
        self._converting = asyncio.Semaphore(settings.workers)
        self._looks: dict[int, wav.WavLook] = {}
        self._chosen: dict[int, str] = {}
        self._tried: dict[int, set[str]] = {}
        self._fresh: set[int] = set()
        """Converted by this process, and nothing of it has gone anywhere yet."""
        self.counts = Counts()

    async def see_through(self, entry: Entry) -> None:
        """Do one step after another, as far as it goes."""
        try:
            while (following := await self._step(entry)) is not None:
                entry = following
        except RecordingError as error:
            await self._fail(entry, error)
        except Exception as error:  # of our own making; the others go on
            _log.exception("a recording could not be worked on", path=entry.path)
            await self._fail(entry, RecordingError(f"{type(error).__name__}: {error}"))

    async def place(self, entry: Entry) -> None:
        """Write down where it will go, as far as that can be said by now."""
        server = self._choose(entry)
        if server is not None:
            await self._put_down(entry, server)

    async def _step(self, entry: Entry) -> Entry | None:
        """Do the next step; None: it is done, or has to wait."""
        steps: dict[str, Callable[[Entry], Awaitable[Entry | None]]] = {
            "found": self._finish,
            "finished": self._convert,
            "converted": self._upload,
            "uploaded": self._verify,
            "verified": self._publish,
        }
        return await steps[entry.step](entry)

    async def _finish(self, entry: Entry) -> Entry | None:
        """See that the WAV is complete."""
        try:
            path, look = await asyncio.to_thread(self._look, entry)
        except PathRefusedError:
            self.counts.refused += 1
            raise
        if look.status == "finished":
            self._looks.pop(entry.id, None)
            server = self._choose(entry)
            place = _place(entry, server) if server is not None else {}
            return await self._advance(entry, "finished", wav_bytes=look.size_bytes, **place)
        self._looks[entry.id] = look
        is_final = look.status in {"empty", "damaged"} or (
            look.status == "missing" and self._age_s(entry) > self._settings.missing_after_s
        )
        raise RecordingError(f"{path}: {look.reason}", is_final=is_final)

    def _look(self, entry: Entry) -> tuple[Path, wav.WavLook]:
        """Find the WAV, look at it, and mend it where that is needed. Asks the disk."""
        path = self._spool.locate(entry.path)
        look = wav.examine(path, seen=self._looks.get(entry.id))
        if look.status == "damaged" and look.can_be_mended:
            _log.warning("a WAV is mended", path=str(path), reason=look.reason)
            wav.mend(path)
            look = wav.examine(path, seen=look)
        return path, look

    async def _convert(self, entry: Entry) -> Entry | None:
        """Make the MP3, here or where it will be."""
        server = self._get_server(entry)
        path = await asyncio.to_thread(self._spool.locate, entry.path)
        tags = Tags(
            callnumber=entry.callnumber,
            origin=entry.origin,
            destiny=entry.destiny,
            started_at=entry.created_ms / 1000,
        )
        transport = self._transports.of(server)
        if self._is_remote(entry) and isinstance(transport, RemoteConverter):
            entry = await self._put_down(entry, server)
            async with self._converting:
                work = transport.upload_and_convert(path, entry.name, tags, self._lame)
                size = await self._at(server, entry, work)
            return await self._advance(entry, "uploaded", mp3_bytes=size, sha256="")
        mp3 = mp3_of(self._settings, entry)
        size = await lame.convert(path, mp3, tags, self._lame, turn=self._converting)
        digest = await asyncio.to_thread(_digest, mp3)
        self._fresh.add(entry.id)
        return await self._advance(entry, "converted", mp3_bytes=size, sha256=digest, attempts=0)

    async def _upload(self, entry: Entry) -> Entry | None:
        """Bring the MP3 to its server, unless it is there already."""
        mp3 = mp3_of(self._settings, entry)
        is_fresh = entry.id in self._fresh
        self._fresh.discard(entry.id)
        if not is_fresh and await asyncio.to_thread(_digest, mp3) != entry.sha256:
            return await self._back(entry, "finished")
        server = self._get_server(entry)
        # Where it was interrupted after the last byte, the file is there: it need not go twice.
        may_be_there = server.name == entry.server and not is_fresh
        entry = await self._put_down(entry, server)
        transport: Transport = self._transports.of(server)
        there = await self._at(server, entry, transport.size(entry.name)) if may_be_there else None
        if there != entry.mp3_bytes:
            await self._at(server, entry, transport.upload(mp3, entry.name))
        return await self._advance(entry, "uploaded")

    async def _verify(self, entry: Entry) -> Entry | None:
        """Ask the server what it has; it is told of in the same transaction that notes it."""
        server = self._servers.find(entry.server)
        if server is None:
            return await self._back(entry, _before_upload(entry))
        size = await self._at(server, entry, self._transports.of(server).size(entry.name))
        if size != entry.mp3_bytes:
            there = "nothing" if size is None else f"{size} bytes"
            raise self._blame(server, entry, f"{entry.name}: {there} there instead of {entry.mp3_bytes} bytes")
        self._servers.worked(server)
        self.counts.stored += 1
        _log.info("recording stored", url=entry.url, mp3_bytes=entry.mp3_bytes, callnumber=entry.callnumber)
        await self._publish(entry)
        return None

    async def _publish(self, entry: Entry) -> None:
        """Tell of it, with the other recordings of its call where their message waits for them."""
        # Where it has to wait for the others, it waits as long as the message does.
        later = self._clock() + max(self._settings.max_wait_s, 1.0)
        changes = {"step": "verified", "next_try_at": later}
        messages = await self._ledger.settle(entry.message_id, entry=entry, changes=changes)
        self._forget(entry)
        self._offer(messages)

    async def _fail(self, entry: Entry, error: RecordingError) -> None:
        """Try again later, on another server where that may help, or give it up."""
        self.counts.failures += 1
        if error.is_final or self._age_s(entry) > self._settings.give_up_after_s:
            await self._give_up(entry, error.reason)
            return
        pause_s = min(self._settings.backoff_first_s * 2.0 ** min(entry.attempts, 60), self._settings.backoff_max_s)
        tried = self._tried.setdefault(entry.id, set())
        if error.is_server and self._servers.choose(self._client(entry), exclude=tried) is not None:
            pause_s = 0.0
        elif error.is_server:
            tried.clear()  # none is left: begin again with the first
        tell = _log.debug if entry.step == "found" else _log.warning
        tell("a recording has to wait", path=entry.path, step=entry.step, reason=error.reason, retry_in_s=pause_s)
        step = _before_upload(entry) if entry.step == "uploaded" else _REDONE.get(entry.step, entry.step)
        next_try_at = self._clock() + pause_s
        await self._ledger.update(
            entry, step=step, attempts=entry.attempts + 1, error=error.reason, next_try_at=next_try_at
        )

    async def _give_up(self, entry: Entry, reason: str) -> None:
        self.counts.given_up += 1
        _log.error("a recording is lost", path=entry.path, callnumber=entry.callnumber, reason=reason)
        changes = {"step": "given-up", "error": reason, "attempts": entry.attempts + 1}
        messages = await self._ledger.settle(entry.message_id, entry=entry, changes=changes)
        self._forget(entry)
        self._offer(messages)

    # -- helpers -----------------------------------------------------------------------------------------------

    async def _advance(self, entry: Entry, step: str, **changes: object) -> Entry:
        """A step is done."""
        return await self._ledger.update(entry, step=step, next_try_at=self._clock(), **changes)

    async def _back(self, entry: Entry, step: str) -> Entry:
        """A step has to be done again."""
        return await self._ledger.update(entry, step=step, next_try_at=self._clock())

    def _choose(self, entry: Entry) -> AudioServer | None:
        """The server that was chosen, as long as it works; else another one; None: there is none.

        The choice is kept, so that whoever asks before it is written down gets the same answer.
        """
        tried = self._tried.get(entry.id, set())
        name = entry.server or self._chosen.get(entry.id, "")
        server = self._servers.find(name) if name and name not in tried else None
        server = server or self._servers.choose(self._client(entry), exclude=tried)
        if server is not None:
            self._chosen[entry.id] = server.name
        return server

    def _get_server(self, entry: Entry) -> AudioServer:
        server = self._choose(entry)
        if server is None:
            raise RecordingError("the directory names no audio server for it")
        return server

    async def _put_down(self, entry: Entry, server: AudioServer) -> Entry:
        """Write down where it goes, before anything of it gets there."""
        place = _place(entry, server)
        if place == {"server": entry.server, "url": entry.url}:
            return entry
        return await self._ledger.update(entry, **place)

    def _client(self, entry: Entry) -> Client | None:
        return self.directory.clients.get(entry.client)

    def _is_remote(self, entry: Entry) -> bool:
        client = self._client(entry)
        return client is not None and client.ftp_wav

    async def _at(self, server: AudioServer, entry: Entry, work: Awaitable[_T]) -> _T:
        """Do something at a server; where it fails there, the server is the one to blame."""
        try:
            return await work
        except RecordingError as error:
            if error.is_server:
                self._blame(server, entry, error.reason)
            raise

    def _blame(self, server: AudioServer, entry: Entry, reason: str) -> RecordingError:
        """A server did not do what it should: the next attempt is made elsewhere."""
        self._servers.failed(server, reason)
        self._tried.setdefault(entry.id, set()).add(server.name)
        return RecordingError(reason, is_server=True)

    def _forget(self, entry: Entry) -> None:
        self._looks.pop(entry.id, None)
        self._chosen.pop(entry.id, None)
        self._tried.pop(entry.id, None)
        self._fresh.discard(entry.id)

    def _age_s(self, entry: Entry) -> float:
        return self._clock() - entry.ended_ms / 1000


def _place(entry: Entry, server: AudioServer) -> dict[str, str]:
    """What the ledger says of where it goes."""
    return {"server": server.name, "url": server.url_of(entry.name)}


def _before_upload(entry: Entry) -> str:
    """The step from which a recording has to be brought to a server again."""
    return "converted" if entry.sha256 else "finished"


def _digest(path: Path) -> str:
    """SHA-256 of a file; empty where there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
