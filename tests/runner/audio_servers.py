"""Audio servers for tests: a real pure-ftpd and a real sshd, private, on loopback, as processes of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from typing import Any

from typed_settings import SecretStr

from arimonitor_runner.recordings import AudioServer

USER = "voip"
PASSWORD = "audio secret"
BASE_URL = "http://audio.example/voip1/"
TIMEOUT_S = 20.0


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        return int(finder.getsockname()[1])


class _Daemon(ABC):
    """A server process and all that it starts; with a small disk where one is asked for.

    What is on the small disk lives as long as the process.
    """

    def __init__(self, folder: Path, *, disk_kb: int = 0) -> None:
        self.folder = folder
        self.files = folder / "voip1"
        self.files.mkdir(parents=True)
        self._disk_kb = disk_kb
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Its command line."""

    def start(self) -> None:
        """Start it, on the same port every time, and wait until it takes connections."""
        with (self.folder / "log").open("ab") as log:
            command = self.command()
            if self._disk_kb:
                mount = f"mount -t tmpfs -o size={self._disk_kb}k,uid=65534,gid=65534,mode=755 none {self.folder}/voip1"
                command = ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh", *command]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
            if self._disk_kb:
                # The mount is seen by the server alone, and by us through it.
                self.files = Path(f"/proc/{self._process.pid}/root{self.folder}/voip1")
        while True:
            assert self._process.poll() is None, (self.folder / "log").read_text()
            if self._is_listening():
                return
            time.sleep(0.01)

    def _is_listening(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except (ConnectionRefusedError, ConnectionResetError):
            return False
        return True

    def kill(self) -> None:
        """Crash it, with every session."""
        if self._process is not None:
            self.signal(signal.SIGKILL)
            self._process.wait()
            self._process = None
            # Its sessions hold the port until they are gone as well.
            while self._is_listening():
                time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Send a signal to it and to every session; SIGSTOP makes a server that answers nothing."""
        assert self._process is not None
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                # After the name, which may hold anything: the state, then the parent.
                parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        ours = {self._process.pid}
        while grown := {child for child, parent in parents.items() if parent in ours} - ours:
            ours |= grown
        # Sessions leave their server's process group.
        for process in sorted(ours):
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def read(self, name: str) -> bytes:
        """What is stored there."""
        return (self.files / name).read_bytes()

    def names(self) -> list[str]:
        """All that is stored there."""
        return sorted(os.listdir(self.files))


class FtpServer(_Daemon):
    """pure-ftpd with one virtual user, whose home is the folder above `voip1`."""

    def __init__(self, folder: Path, *, tls: bool = False, disk_kb: int = 0, kb_s: int = 0) -> None:
        """Say where it lives; with TLS, with a small disk, or with a slow line, in kB/s."""
        super().__init__(folder, disk_kb=disk_kb)
        self.tls = tls
        self.kb_s = kb_s
        self.certificate = folder / "certificate.pem"
        # A virtual user may not be root.
        for path in (folder, self.files):
            os.chown(path, 65534, 65534)
        # What pure-pw writes itself costs seconds of hashing at every login.
        hashed = subprocess.run(
            ["openssl", "passwd", "-1", PASSWORD], check=True, capture_output=True, text=True
        ).stdout
        (folder / "users").write_text(f"{USER}:{hashed.strip()}:65534:65534::{folder}/./::::::::::::\n")
        subprocess.run(["pure-pw", "mkdb", f"{folder}/users.pdb", "-f", f"{folder}/users"], check=True)
        if tls:
            make_certificate(self.certificate)

    def command(self) -> list[str]:
        """Its command line."""
        passive = free_port()
        options = [
            "pure-ftpd", "--bind", f"127.0.0.1,{self.port}", "--pidfile", f"{self.folder}/pid", "--ipv4only",
            "--passiveportrange", f"{passive}:{min(passive + 40, 65535)}", "--login", f"puredb:{self.folder}/users.pdb",
            "--minuid", "1", "--noanonymous", "--dontresolve", "--umask", "022:022", "--maxclientsperip", "50",
        ]  # fmt: skip
        options += ["--tls", "2", "--certfile", str(self.certificate)] if self.tls else []
        return [*options, "--userbandwidth", f"{self.kb_s}:"] if self.kb_s else options

    def server(self, name: str = "audio", **changes: Any) -> AudioServer:
        """How the daemon knows it."""
        known: dict[str, Any] = {
            "transport": "ftps" if self.tls else "ftp",
            "user": USER,
            "password": SecretStr(PASSWORD),
            "folder": "voip1",
            "ca_file": self.certificate if self.tls else None,
        }
        return _server(name, self.port, known, changes)


class SshServer(_Daemon):
    """sshd for the user who runs the tests, with LAME where Debian has it."""

    def __init__(self, folder: Path, *, disk_kb: int = 0) -> None:
        super().__init__(folder, disk_kb=disk_kb)
        for name in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / f"{name}_key"], check=True)
        shutil.copy(folder / "client_key.pub", folder / "authorized_keys")
        host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        lines = (
            f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {folder}/host_key", "PidFile none", "UsePAM no",
            f"AuthorizedKeysFile {folder}/authorized_keys", "StrictModes no", "PermitRootLogin prohibit-password",
            "PasswordAuthentication no", "Subsystem sftp internal-sftp", "MaxSessions 10",
        )  # fmt: skip
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")
        # Where sshd drops its rights; Debian's service makes it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    def command(self) -> list[str]:
        """Its command line."""
        return ["/usr/sbin/sshd", "-D", "-e", "-f", f"{self.folder}/sshd_config"]

    def server(self, name: str = "audio", **changes: Any) -> AudioServer:
        """How the daemon knows it."""
        known: dict[str, Any] = {
            "transport": "ssh",
            "user": "root",
            "key_file": self.folder / "client_key",
            "known_hosts": self.folder / "known_hosts",
            "folder": f"{self.folder}/voip1",
        }
        return _server(name, self.port, known, changes)


def make_certificate(path: Path, *, host: str = "127.0.0.1") -> None:
    """Make a key and a certificate for this address that signs itself."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=audio.example",
         "-addext", f"subjectAltName=IP:{host}", "-keyout", f"{path}.key", "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(Path(f"{path}.key").read_text() + Path(f"{path}.crt").read_text())


def _server(name: str, port: int, known: dict[str, Any], changes: dict[str, Any]) -> AudioServer:
    general: dict[str, Any] = {
        "name": name,
        "base_url": BASE_URL,
        "host": "127.0.0.1",
        "port": port,
        "connect_timeout_s": TIMEOUT_S,
        "transfer_timeout_s": TIMEOUT_S,
    }
    return AudioServer(**{**general, **known, **changes})
