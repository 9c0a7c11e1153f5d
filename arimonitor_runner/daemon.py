"""`arimonitor-run`, the daemon's command line.

Exit status: 0 stopped on request, 1 a part of it crashed, 2 settings or directory cannot be used, 3 another process
took over the ARI application, 4 another daemon holds the PID file.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click
import structlog

from arimonitor_runner.directory_sources.text import load_directory
from arimonitor_runner.logs import configure_logs
from arimonitor_runner.running import ExitStatus
from arimonitor_runner.settings import Settings
from arimonitor_runner.settings_sources import (
    OPTIONS,
    SettingsError,
    check_together,
    describe_settings,
    environment_file,
    load_settings,
    option_name,
    secrets_of,
)
from arimonitor_runner.wiring import run_daemon, uses_broker


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add one option for each setting; what is not given is not passed on."""
    for option in reversed(OPTIONS):
        parameter = option.path.replace(".", "__")
        name, text = option_name(option.path), option.metadata.get("help")
        command = click.option(name, parameter, metavar="VALUE", help=text)(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config", "file", type=click.Path(path_type=Path), help="TOML file; default /etc/arimonitor/arimonitor.toml."
)
@click.option("--check-config", "check", is_flag=True, help="Say what the settings and the directory are, and exit.")
@click.option("--demo", is_flag=True, help="Play recorded calls and follow them; needs no Asterisk and no RabbitMQ.")
@click.option("--demo-speed", type=click.FloatRange(min=0, min_open=True), help="Times as fast as life.")
@_setting_options
@click.version_option(package_name="arimonitor")
def main(file: Path | None, check: bool, demo: bool, demo_speed: float | None, **given: str | None) -> None:
    """Follow every call of an Asterisk and tell RabbitMQ what becomes of it.

    A setting comes from its default, the TOML file, an environment variable (ARIMONITOR_ARI_URL) or an option
    (--ari-url), the later ones overruling the earlier. Lists are separated by commas.
    """
    if demo:
        _run_demo(demo_speed)
    arguments = {name.replace("__", "."): value for name, value in given.items() if value is not None}
    try:
        loaded = load_settings(file or environment_file(), arguments)
        check_together(loaded.settings)
    except SettingsError as error:
        for fault in error.faults:
            click.echo(f"error: {fault}", err=True)
        sys.exit(ExitStatus.MISCONFIGURED)
    if check:
        for line in describe_settings(loaded):
            click.echo(line)
        sys.exit(_check_directory(loaded.settings))
    sys.exit(_run(loaded.settings))


def _run_demo(speed: float | None) -> NoReturn:
    # Imported when it is asked for: the daemon itself needs none of it.
    run_demo = import_module("arimonitor_runner.demo.command").run_demo
    sys.exit(run_demo() if speed is None else run_demo(speed=speed))


def _check_directory(settings: Settings) -> ExitStatus:
    loaded = load_directory(settings.directory.folder, os.environ)
    for problem in loaded.problems:
        click.echo(str(problem), err=True)
    directory = loaded.directory
    click.echo(
        f"# directory: {len(directory.clients)} clients, {len(directory.endpoints)} endpoints, "
        f"{len(directory.ring_groups)} ring groups, {len(directory.mq_servers)} MQ servers, "
        f"{len(loaded.audio_servers)} audio servers"
    )
    click.echo(f"# messages go to {'RabbitMQ' if uses_broker(settings, directory) else 'the log only'}")
    if not loaded.is_usable:
        click.echo(f"error: directory.folder: {settings.directory.folder} cannot be used", err=True)
        return ExitStatus.MISCONFIGURED
    return ExitStatus.STOPPED


def _run(settings: Settings) -> ExitStatus:
    configure_logs(settings.logs, secrets=secrets_of(settings))
    log = structlog.get_logger()
    log.info("starting", server=settings.server, pid=os.getpid())
    try:
        return asyncio.run(run_daemon(settings))
    except Exception:  # the last place where a fault can still be told
        log.exception("the daemon crashed")
        return ExitStatus.CRASHED


if __name__ == "__main__":
    main(prog_name="arimonitor-run")
