"""A process that ends recorded calls and stores their recordings, to be killed at any instant.

Arguments: folder, port and folder of an FTP server, which life this is, and how many calls end in it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from typed_settings import SecretStr

from arimonitor_runner.recordings import AudioServer
from tests.runner.audio_servers import BASE_URL, PASSWORD, USER
from tests.runner.recording_desk import Station, fleet
from tests.runner.sounds import write_wav


async def main(folder: str, port: str, life: str, calls: str) -> None:
    """Say on standard output which calls have ended, each once that is on disk."""
    server = AudioServer(
        name="audio", base_url=BASE_URL, transport="ftp", host="127.0.0.1", port=int(port), user=USER,
        password=SecretStr(PASSWORD), folder="voip1",
    )  # fmt: skip
    station = Station(Path(folder), fleet(server), time.time, backoff_first_s=0.05, backoff_max_s=0.2)
    await station.open()
    station.start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for number in range(int(calls)):
        guid = f"call-{life}-{number}"
        write_wav(station.spool / f"{guid}.wav", 1 + number)
        await station.end(guid)
        sys.stdout.write(f"ended {guid}\n")
        sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
