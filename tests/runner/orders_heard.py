"""What a running daemon hears of a command that changes its outbox."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from arimonitor_runner.cli import main
from arimonitor_runner.control import ControlServer


async def run_with_and_without_daemon(
    folder: Path, outbox: Path, order: str, *command: str
) -> tuple[list[Result], list[Any]]:
    """Run a command twice, beside somebody who takes this order and then beside nobody; gives what was heard too."""
    (folder / "journal").mkdir()
    config = folder / "arimonitor.toml"
    config.write_text(f'[arimonitor.outbox]\npath = "{outbox}"\n[arimonitor.journal]\nfolder = "{folder}/journal"\n')
    heard = []

    async def hear(request: Any) -> dict[str, Any]:
        heard.append(request)
        return {}

    async def run() -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, [*command, "--config", str(config)])

    control = ControlServer(folder / "journal", {order: hear})
    await control.start()
    first = await run()
    await control.close()
    return [first, await run()], heard
