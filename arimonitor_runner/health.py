"""Before the start: is Asterisk there? The daemon waits for it and says so, instead of failing against it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit

import structlog

from arimonitor_runner.settings import AmiSettings, AriSettings

_ATTEMPT_S = 3.0
_PAUSE_S = 0.5
_REMIND_S = 30.0
_BANNER_BYTES_MAX = 200

_log = structlog.get_logger()


async def wait_for_ari(settings: AriSettings) -> None:
    """Return when something listens where ARI should be. Whether it is ARI, the first request will tell."""
    parts = urlsplit(settings.url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    await _wait_for("ARI", host, port, banner=b"")


async def wait_for_ami(settings: AmiSettings) -> bool:
    """Return when AMI greets, or, after `wait_max_s`, without it. True: it is there, or not to be looked at."""
    if not settings.host:
        return True
    try:
        async with asyncio.timeout(settings.wait_max_s):
            await _wait_for("AMI", settings.host, settings.port, banner=b"Asterisk Call Manager")
    except TimeoutError:
        _log.error("AMI is not there; going on without", host=settings.host, port=settings.port)
        return False
    return True


async def _wait_for(name: str, host: str, port: int, *, banner: bytes) -> None:
    loop = asyncio.get_running_loop()
    began_at = remind_at = loop.time()
    while (fault := await _probe(host, port, banner)) is not None:
        if loop.time() >= remind_at:
            waited_s = round(loop.time() - began_at)
            _log.warning(f"waiting for {name}", host=host, port=port, reason=fault, waited_s=waited_s)
            remind_at = loop.time() + _REMIND_S
        await asyncio.sleep(_PAUSE_S)
    _log.info(f"{name} is there", host=host, port=port)


async def _probe(host: str, port: int, banner: bytes) -> str | None:
    """Connect once; None where all is well, else what is not."""
    try:
        async with asyncio.timeout(_ATTEMPT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                greeting = await reader.readline() if banner else b""
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return "no answer"
    except (OSError, ValueError) as error:
        return str(error)
    if not greeting.startswith(banner):
        return f"greeted with {greeting[:_BANNER_BYTES_MAX]!r}"
    return None
