"""A PBX of its own, without telephones, that is configured as `arimonitor asterisk-config` says."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from attrs import evolve

from arimonitor_runner.commands.asterisk_config import describe_asterisk
from arimonitor_runner.settings import Settings
from tests.live.lab import ASTERISK, HOME, SUITES, build, find_own_host
from tests.runner.waiting import until

AMI_PASSWORD = "watching"


class LonePbx:
    """Its calls are Local channels whose halves wait for digits, in silence."""

    def __init__(self, version: int, folder: Path, settings: Settings) -> None:
        self.version = version
        self.folder = folder
        self.host = find_own_host().replace("127.", "127.1", 1)
        self.name = f"lone-{os.getpid()}"
        self.tree = HOME / SUITES[version] / self.name
        self.settings = evolve(
            settings,
            ari=evolve(settings.ari, url=f"http://{self.host}:8088"),
            ami=evolve(settings.ami, host=self.host),
        )

    def run(self, *arguments: str) -> None:
        """Run the lab's script for this PBX."""
        environment = {**os.environ, "LAB_HOME": str(HOME), "LAB_HOST": self.host, "LAB_NAME": self.name}
        command = [ASTERISK / "lab.sh", str(self.version), *arguments]
        with (self.folder / "lab.log").open("a+") as log:
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True, env=environment)

    def start(self) -> None:
        """Write the lab's configuration, ours over it, and start."""
        assert build(self.version).returncode == 0
        self.run("conf")
        for name, text in self._files().items():
            path = self.tree / "pbx/etc" / name
            # The lab's telephones stay; the section is one that they have as well.
            path.write_text(path.read_text().replace("[global]\ntype=global\n", text) if name == "pjsip.conf" else text)
        self.run("up", "pbx")

    def stop(self) -> None:
        """Stop and remove what it left."""
        self.run("down")
        shutil.rmtree(self.tree)
        for path in HOME.glob(f"{SUITES[self.version]}-{self.name}-*"):
            path.unlink()

    def _files(self) -> dict[str, str]:
        """What the command prints, file by file, with the secrets filled in."""
        secrets = {
            "<ARIMONITOR_ARI_PASSWORD>": str(self.settings.ari.password),
            "<ARIMONITOR_ARI_LISTEN_PASSWORD>": str(self.settings.ari.listen_password),
            "<ARIMONITOR_AMI_PASSWORD>": AMI_PASSWORD,
        }
        files: dict[str, str] = {}
        for line in describe_asterisk(self.settings):
            if line.startswith("; === "):
                name = line.split()[2]
                files[name] = ""
            for placeholder, secret in secrets.items():
                line = line.replace(placeholder, secret)  # noqa: PLW2901
            files[name] += f"{line}\n"
        return files

    def request(self, method: str, path: str) -> object:
        """Ask over REST."""
        ari = self.settings.ari
        request = urllib.request.Request(f"{ari.url}/ari/{path}", method=method)
        request.add_header("Authorization", "Basic " + b64encode(f"{ari.user}:{ari.password}".encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    async def call(self, count: int) -> None:
        """Place so many calls, one after the other."""
        where = "endpoint=Local/94@condominio&context=condominio&extension=94&priority=1"
        for _ in range(count):
            await asyncio.to_thread(self.request, "POST", f"channels?{where}")

    async def hang_up(self) -> None:
        """End all calls, and wait until they are gone."""
        for channel in await asyncio.to_thread(self.request, "GET", "channels"):
            with suppress(urllib.error.HTTPError):  # gone with its other half
                await asyncio.to_thread(self.request, "DELETE", f"channels/{channel['id']}")
        await until(lambda: self.request("GET", "channels") == [])


@contextmanager
def running_pbx(version: int, folder: Path, settings: Settings) -> Iterator[LonePbx]:
    """Start one, and stop it in the end."""
    pbx = LonePbx(version, folder, settings)
    try:
        pbx.start()
        yield pbx
    finally:
        pbx.stop()
