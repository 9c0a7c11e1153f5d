"""A private pair of Asterisks (the PBX and its telephones) for one worker of a test session."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from pathlib import Path
from types import ModuleType

from arimonitor_runner.directory_sources.text import load_directory

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
ASTERISK = FIXTURES / "asterisk"
HOME = Path(os.environ.get("LAB_HOME") or os.environ.get("ARIMONITOR_LAB") or "/var/tmp/arimonitor-lab")
SUITES = {22: "sid", 16: "bullseye"}

ARI_USER = ARI_PASSWORD = "arimonitor"
READER = "leitor"
SMARTPHONE = "1129"
"""Registers only after a push."""

_READ_ONLY_USER = f"[{READER}]\ntype = user\nread_only = yes\npassword = {ARI_PASSWORD}\n"

# The lab's modules import each other by their bare names.
sys.path.append(str(ASTERISK))


def load(name: str) -> ModuleType:
    """Import one of the lab's modules."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ASTERISK / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def build(version: int) -> subprocess.CompletedProcess[str]:
    """Make the chroot where it is missing; a minute or two then, a moment else."""
    return subprocess.run([ASTERISK / "build.sh", str(version)], capture_output=True, text=True, check=False)


def find_own_host() -> str:
    """Give a loopback address that is this process's alone: made of its id, which no other running process has."""
    pid = os.getpid()
    return f"127.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"


class Pair:
    """One pair: its own address, its own directory in the chroot of its version."""

    def __init__(self, version: int, folder: Path, *, with_channelvars: bool) -> None:
        self.version = version
        self.with_channelvars = with_channelvars
        self.host = find_own_host()
        self.name = f"live-{os.getpid()}"
        self.tree = HOME / SUITES[version] / self.name
        self._extra = folder / "extra"
        self._extra.mkdir(parents=True)
        (self._extra / "pbx-ari.conf").write_text(_READ_ONLY_USER)

    @property
    def url(self) -> str:
        """Where ARI is."""
        return f"http://{self.host}:8088"

    def start(self) -> None:
        """Write the configuration and start both."""
        built = build(self.version)
        assert built.returncode == 0, built.stdout + built.stderr
        # The lab's scripts and modules take these from the environment.
        os.environ.update(LAB_HOME=str(HOME), LAB_HOST=self.host, LAB_NAME=self.name)
        labctl = load("labctl")
        labctl.LAB_HOME, labctl.LAB_NAME = HOME, self.name
        self._run("conf", str(self._extra), *["--channelvars"] * self.with_channelvars)
        self._run("up")
        self._wait_registered()

    def stop(self) -> None:
        """Stop both and remove what they left."""
        self._run("down")
        shutil.rmtree(self.tree)
        for path in HOME.glob(f"{SUITES[self.version]}-{self.name}-*"):
            path.unlink()

    def _wait_registered(self) -> None:
        """Wait until every telephone is registered; to one that is not yet, a call would only be a push."""
        wanted = set(load_directory(FIXTURES / "directory", {}).directory.endpoints) - {SMARTPHONE}
        request = urllib.request.Request(f"{self.url}/ari/endpoints")
        request.add_header("Authorization", "Basic " + b64encode(f"{ARI_USER}:{ARI_PASSWORD}".encode()).decode())
        give_up_at = time.monotonic() + 120
        while True:
            with urllib.request.urlopen(request, timeout=10) as answer:
                online = {shown["resource"] for shown in json.load(answer) if shown["state"] == "online"}
            if wanted <= online:
                return
            assert time.monotonic() < give_up_at, f"not registered: {sorted(wanted - online)}"
            time.sleep(0.2)

    def _run(self, *arguments: str) -> None:
        command = [ASTERISK / "lab.sh", str(self.version), *arguments]
        # Its output goes to a file: Asterisk keeps a pipe open for as long as it lives.
        with (self._extra.parent / "lab.log").open("a+") as log:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
            log.seek(0)
            assert done.returncode == 0, log.read()
