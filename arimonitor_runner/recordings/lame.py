"""LAME: from a WAV to an MP3, as a process of its own that stands back behind Asterisk.

What LAME says of itself is not enough: it ends with success where it read half of a file or none. So the WAV is
examined before, and the MP3 is looked at after: whole, and as long as its WAV.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from arimonitor_runner.recordings import Lame, RecordingError, Tags, mp3, wav

LOCALE = "C.UTF-8"
"""Without LC_ALL=this LAME takes the tags for ASCII and drops them at the first letter that is not."""

_TAG_LENGTH_MAX = 100
_WORDS_MAX = 300


async def convert(
    source: Path, target: Path, tags: Tags, lame: Lame, *, turn: AbstractAsyncContextManager[object] | None = None
) -> int:
    """Make `target`, an MP3, of `source`, a WAV that is finished, and give its size in bytes.

    LAME itself runs within `turn`, which may bound how many do so at a time.

    Written aside, forced to disk and renamed, so that under its name there is a whole MP3 or none. A target that exists
    is replaced. When cancelled, LAME is ended and nothing is left.

    Raises:
        RecordingError: it did not work; final where this WAV can never be converted.
    """
    source, target = source.absolute(), target.absolute()  # noqa: ASYNC240  # asks no disk
    aside = target.with_name(f".{target.name}.part")
    try:
        wav_seconds = await asyncio.to_thread(_prepare, source, aside)
        # Absolute: LAME takes what begins with a dash for an option, and has no -- to end them.
        command = [lame.program, *arguments(tags, lame), str(source), str(aside)]
        async with turn or nullcontext():
            await _run(command, lame)
        return await asyncio.to_thread(_finish, aside, target, wav_seconds)
    except OSError as error:
        raise RecordingError(f"{target} cannot be written: {error.strerror}") from error
    except ValueError as error:
        raise RecordingError(f"{source}: LAME made no good MP3: {error}") from error
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def check_source(source: Path) -> float:
    """See that a WAV is finished, and give its length in seconds.

    Raises:
        RecordingError: it is not; final where it will never be.
    """
    # Whether it may still grow the caller knows better than two looks in a row.
    look = wav.examine(source, seen=wav.examine(source))
    if look.status != "finished":
        is_final = look.status == "empty" or (look.status == "damaged" and not look.can_be_mended)
        raise RecordingError(f"{source} is not converted: {look.reason}", is_final=is_final)
    return look.seconds


def arguments(tags: Tags, lame: Lame) -> list[str]:
    """LAME's options; source and target come after them. Tags may hold any text: each is one argument."""
    started_at = datetime.fromtimestamp(tags.started_at, UTC)
    words = ["--quiet", "-m", "m", "--cbr", "-b", str(lame.bitrate_kbit_s), "--noreplaygain", "--id3v2-only"]
    for option, text in (
        ("--tt", str(tags.callnumber)),
        ("--ta", tags.origin),
        ("--tl", tags.destiny),
        ("--ty", f"{started_at:%Y}"),
        # Day and month, hour and minute, as ID3v2.3 has them; UTC.
        ("--tv", f"TDAT={started_at:%d%m}"),
        ("--tv", f"TIME={started_at:%H%M}"),
    ):
        clean = "".join(letter for letter in text if letter.isprintable())[:_TAG_LENGTH_MAX]
        if clean:
            words += [option, clean]
    return words


def last_words(output: bytes) -> str:
    """What a program said before it gave up, as one line."""
    text = " ".join(output.decode(errors="replace").split())
    return text[-_WORDS_MAX:] or "it gave no reason"


def _prepare(source: Path, aside: Path) -> float:
    """See that a conversion can begin; gives the length of the WAV in seconds."""
    seconds = check_source(source)
    aside.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Where we were killed, an earlier LAME may still be writing there: it goes on into a file without a name.
    aside.unlink(missing_ok=True)
    return seconds


async def _run(command: Sequence[str], lame: Lame) -> None:
    """Run LAME to its end."""
    # A file and no pipe: what a child of LAME's keeps open can make nobody wait.
    with tempfile.TemporaryFile() as words:
        try:
            process = await _start(command, words)
        except OSError as error:
            raise RecordingError(f"{lame.program} cannot be run: {error.strerror}") from error
        try:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, lame.nice)
            async with asyncio.timeout(lame.timeout_s):
                await process.wait()
        except TimeoutError:
            raise RecordingError(f"{lame.program} did not end within {lame.timeout_s:g} s") from None
        finally:
            await _end(process)
        if process.returncode:
            words.seek(0)
            raise RecordingError(f"{lame.program} failed ({process.returncode}): {last_words(words.read())}")


async def _start(command: Sequence[str], words: IO[bytes]) -> Process:
    """Start a process; cancelled in the middle of it, end it with all that it has started."""
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=words,
            # Where LAME is a script, all that it started ends with it.
            process_group=0,
            # Nothing else of our environment: it may hold passwords.
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": LOCALE},
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(OSError):
            await _end(await starting)
        raise


async def _end(process: Process) -> None:
    """Kill a process and its group, unless it has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _finish(aside: Path, target: Path, wav_seconds: float) -> int:
    """Look at what LAME wrote and give it its name."""
    with aside.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        mp3.check_length(file.read(mp3.HEAD_BYTES), size, wav_seconds)
        os.fsync(file.fileno())
    aside.replace(target)
    return size
