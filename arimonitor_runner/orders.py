"""What operators can order over the control socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from arimonitor_runner.ari import AriFeed
from arimonitor_runner.ari.errors import AriError
from arimonitor_runner.control import Command, CommandError
from arimonitor_runner.loop import CoreLoop
from arimonitor_runner.sinks import Sink


def make_orders(
    feed: AriFeed, loop: CoreLoop, sink: Sink, nudge_recordings: Callable[[], None] | None = None
) -> dict[str, Command]:
    """The orders, by name."""

    async def recover(_request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            await feed.refresh()
        except AriError as error:
            raise CommandError(str(error)) from error
        return {}

    async def snapshot(_request: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return {"position": await loop.checkpoint()}
        except OSError as error:
            raise CommandError(str(error)) from error

    async def retry_parked(request: Mapping[str, Any]) -> Mapping[str, Any]:
        vhost = request.get("vhost")
        if vhost is not None and not isinstance(vhost, str):
            raise CommandError("vhost: a text, or nothing for all of them")
        return {"vhosts": await sink.retry_parked(vhost)}

    async def retry_recordings(_request: Mapping[str, Any]) -> Mapping[str, Any]:
        if nudge_recordings is None:
            raise CommandError("the directory names no audio server: no recording is stored")
        nudge_recordings()
        return {}

    return {
        "recover": recover,
        "snapshot": snapshot,
        "retry-parked": retry_parked,
        "retry-recordings": retry_recordings,
    }
