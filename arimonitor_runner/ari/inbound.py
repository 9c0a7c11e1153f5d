"""Opening the websocket that we dial: `GET /ari/events`, without subscribeAll."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import cast
from urllib.parse import quote

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidStatus

from arimonitor_runner.ari.connection import AriConnection
from arimonitor_runner.ari.delivery import DirectClient
from arimonitor_runner.ari.errors import AriError, AriRefused, AriStuck
from arimonitor_runner.ari.rest import AriRest, authorization
from arimonitor_runner.ari.startup import STATUS_PATH, read_startup_ms
from arimonitor_runner.input_queue import now
from arimonitor_runner.settings import AriSettings

CLOSE_S = 2.0
BOOT_S = 10.0
"""An Asterisk that has run for no longer than this may not take handshakes yet."""


class InboundDoor:
    """Where we dial Asterisk, once for each connection."""

    def __init__(self, settings: AriSettings, rest: AriRest, make: Callable[[DirectClient], AriConnection]) -> None:
        self._settings = settings
        self._rest = rest
        self._make = make

    async def __aenter__(self) -> InboundDoor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing: each connection closes itself."""

    async def next_connection(self) -> AriConnection:
        """Connect once. Raises AriError and its kinds."""
        return self._make(await _dial(self._settings, self._rest))


async def _dial(settings: AriSettings, rest: AriRest) -> DirectClient:
    scheme, _, address = settings.url.rstrip("/").partition("://")
    socket_scheme = "wss" if scheme == "https" else "ws"
    try:
        websocket = await connect(
            f"{socket_scheme}://{address}/ari/events?app={quote(settings.application, safe='')}",
            additional_headers=authorization(settings),
            proxy=None,
            compression=None,
            open_timeout=settings.handshake_timeout_s,
            ping_interval=settings.ping_interval_s,
            ping_timeout=settings.ping_timeout_s,
            close_timeout=CLOSE_S,
            max_size=settings.message_bytes_max,
            create_connection=DirectClient,
        )
    except TimeoutError as error:
        raise await _explain_timeout(settings, rest) from error
    except InvalidStatus as error:
        raise _explain_status(settings, error.response.status_code) from error
    except (InvalidHandshake, OSError, EOFError) as error:
        raise AriError(f"no websocket: {error or type(error).__name__}") from error
    return cast("DirectClient", websocket)  # as `create_connection` says


async def _explain_timeout(settings: AriSettings, rest: AriRest) -> AriError:
    """Tell a PBX that is away from one whose event system is stuck: then simple requests still work.

    A handshake that a restart interrupts is never answered, while requests are as soon as it is over.
    """
    limit_s = settings.handshake_timeout_s
    booting_since_ms = (now() - limit_s - BOOT_S) * 1000
    try:
        info = await rest.get(STATUS_PATH)
    except AriError as error:
        return AriError(f"no websocket handshake within {limit_s:g} s; {error}")
    if read_startup_ms(info) >= booting_since_ms:
        return AriError(f"no websocket handshake within {limit_s:g} s: Asterisk has just started")
    return AriStuck(f"no websocket handshake within {limit_s:g} s, but GET /asterisk/info answers")


def _explain_status(settings: AriSettings, status: int) -> AriError:
    if status in (401, 403):
        return AriRefused(f"{status}: Asterisk does not accept user {settings.user} with this password (ari.conf)")
    return AriError(f"websocket handshake answered with status {status}")
