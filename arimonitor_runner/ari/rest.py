"""The few REST requests that a passive monitor makes. Each has a time limit; none changes a call."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any
from urllib.parse import quote

import aiohttp

from arimonitor_runner.ari.errors import AriError, AriNotFound, AriRefused, AriTimeout
from arimonitor_runner.settings import AriSettings

ANSWER_BYTES_MAX = 64 * 2**20
"""A channel is 1 kB: this is far above any PBX, and a bound all the same."""

_KEEP_ALIVE_S = 5.0

_TOPICS = {
    "channel_ids": "__AST_CHANNEL_ALL_TOPIC",
    "bridge_ids": "__AST_BRIDGE_ALL_TOPIC",
    "endpoint_ids": "__AST_ENDPOINT_ALL_TOPIC",
}


def authorization(settings: AriSettings) -> dict[str, str]:
    """Give the header with our credentials. They never stand in a URL: what does ends up in logs."""
    credentials = b64encode(f"{settings.user}:{settings.password}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


class NotConnected(AriNotFound):
    """404 for our own application: Asterisk does not count us as connected, or not yet."""


class AriRest:
    """Asterisk's REST interface. Use it as an asynchronous context manager."""

    def __init__(self, settings: AriSettings) -> None:
        self._base_url = settings.url.rstrip("/") + "/ari/"
        self._user = settings.user
        self._application = f"applications/{quote(settings.application, safe='')}"
        self.requests = 0
        """How many were made."""
        # trust_env stays off: a proxy for the web has no business between us and the PBX.
        self._session = aiohttp.ClientSession(
            # Asterisk closes a connection that was idle for 15 s: ours must not be in use again at that moment.
            connector=aiohttp.TCPConnector(keepalive_timeout=_KEEP_ALIVE_S),
            headers=authorization(settings),
            timeout=aiohttp.ClientTimeout(total=settings.request_timeout_s),
        )

    async def __aenter__(self) -> AriRest:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str) -> bytes:
        """Give the body of the answer to GET, verbatim. Raises AriError."""
        return await self._request("GET", path)

    async def put_event_filter(self, allowed: Iterable[str]) -> None:
        """Have Asterisk send only events of these types. Raises AriError."""
        # A list that is left out keeps its old value: both are always sent.
        document = {"allowed": [{"type": name} for name in allowed], "disallowed": []}
        await self._request("PUT", f"{self._application}/eventFilter", document)

    async def subscribe(self) -> None:
        """Subscribe to all channels, bridges and endpoints. Raises AriError."""
        await self._request("POST", f"{self._application}/subscription?eventSource=channel:,bridge:,endpoint:")

    async def get_application(self) -> dict[str, Any]:
        """Ask Asterisk's event system about our application. Raises AriError."""
        return _object(await self._request("GET", self._application))

    async def verify_subscription(self) -> None:
        """Look whether Asterisk has us subscribed to everything we need. Raises AriError."""
        answer = await self.get_application()
        shown = {key: ids if isinstance(ids := answer.get(key), list) else [] for key in _TOPICS}
        missing = [topic for key, topic in _TOPICS.items() if topic not in shown[key]]
        if missing:
            raise AriError(f"subscribed, but Asterisk's answer lacks {' '.join(missing)}")

    async def _request(self, method: str, path: str, document: dict[str, Any] | None = None) -> bytes:
        self.requests += 1
        try:
            url = self._base_url + path
            async with self._session.request(method, url, json=document, allow_redirects=False) as response:
                body = await self._read(response)
        except TimeoutError as error:
            raise AriTimeout(f"{method} {path}: no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise AriError(f"{method} {path}: {error}") from error
        if response.status >= 300:
            raise self._refusal(method, path, response.status, body)
        return body

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_chunked(2**16):
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise AriError(f"answer longer than {ANSWER_BYTES_MAX} bytes")
        return bytes(body)

    def _refusal(self, method: str, path: str, status: int, body: bytes) -> AriError:
        message = str(_object(body).get("message", ""))
        said = f"{method} {path}: {status} {message}".rstrip()
        if status == 401:
            return AriRefused(f"{said}: Asterisk does not accept user {self._user} with this password (ari.conf)")
        if status == 403:
            return AriRefused(f"{said}: user {self._user} may not write; set read_only = no for it in ari.conf")
        if status == 404:
            return (NotConnected if path.startswith(self._application) else AriNotFound)(said, message)
        return AriError(said)


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


async def repeat_until_connected(
    request: Callable[[], Awaitable[object]], attempts: int = 10, pause_s: float = 0.1
) -> None:
    """Make a request that needs our application to be registered, which may follow the handshake by a moment."""
    for attempt in range(attempts):
        try:
            await request()
        except NotConnected:
            if attempt == attempts - 1:
                raise
            await asyncio.sleep(pause_s)
        else:
            return
