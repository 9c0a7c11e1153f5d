"""LAME: what comes out decodes to the length of what went in, and what does not work says why and leaves nothing."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

from arimonitor_runner.recordings import Lame, RecordingError, Tags, lame, mp3
from tests.runner.sounds import decoded_seconds, set_sizes, write_wav
from tests.runner.waiting import until

TAGS = Tags(callnumber=8017, origin="1121", destiny="1122", started_at=1_795_338_481.5)
LAME = Lame(timeout_s=60.0)


def names(folder):
    """What lies there."""
    return sorted(os.listdir(folder))


def program(folder, script):
    """A program that stands for a LAME in some trouble."""
    path = folder / "lame-in-trouble"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return evolve(LAME, program=str(path))


def error_of(run, source, target, settings=LAME):
    """What a conversion fails with."""
    with pytest.raises(RecordingError) as raised:
        run(lame.convert(source, target, TAGS, settings))
    return raised.value


@pytest.mark.parametrize(("rate_hz", "bitrate"), [(8000, 24), (16_000, 32), (44_100, 64)])
def test_an_mp3_lasts_as_long_as_its_wav(run, tmp_path, rate_hz, bitrate):
    """Whole, of a constant rate; folders are made where they are missing."""
    source = write_wav(tmp_path / "in" / "a.wav", 5, rate_hz=rate_hz)
    target = tmp_path / "out" / "deep" / "a.mp3"
    size = run(lame.convert(source, target, TAGS, evolve(LAME, bitrate_kbit_s=bitrate)))
    assert size == target.stat().st_size
    assert decoded_seconds(target) == pytest.approx(5, abs=0.5)
    assert size == pytest.approx(5 * bitrate * 125, rel=0.1)
    assert names(target.parent) == ["a.mp3"]
    assert names(source.parent) == ["a.wav"]


def test_tags_are_text_and_nothing_else(run, tmp_path):
    """Letters of every script arrive; dashes, quotes and control characters do no harm."""
    tags = evolve(TAGS, origin='São Paulo 東京 "x"', destiny="--decode\x00\n; rm -rf " + "y" * 500)
    target = tmp_path / "a.mp3"
    run(lame.convert(write_wav(tmp_path / "a.wav"), target, tags, LAME))
    tag = target.read_bytes()[:1500]
    for text in ("8017", 'São Paulo 東京 "x"', "--decode; rm -rf y", "2026", "2211", "0908"):
        assert b"\xff\xfe" + text.encode("utf-16-le") in tag or text.encode("latin-1", "replace") in tag
    assert decoded_seconds(target) == pytest.approx(1, abs=0.5)


def test_a_party_without_a_number_has_no_tag(run, tmp_path):
    """LAME refuses an empty text."""
    run(lame.convert(write_wav(tmp_path / "a.wav"), tmp_path / "a.mp3", evolve(TAGS, origin=""), LAME))
    assert b"TPE1" not in (tmp_path / "a.mp3").read_bytes()


def test_file_names_are_no_options(run, tmp_path, monkeypatch):
    """Nor where they are relative to where the daemon happens to be."""
    monkeypatch.chdir(tmp_path)
    write_wav(tmp_path / "--decode.wav")
    run(lame.convert(Path("--decode.wav"), Path("-y.mp3"), TAGS, LAME))
    assert decoded_seconds(tmp_path / "-y.mp3") == pytest.approx(1, abs=0.5)


def test_an_older_mp3_is_replaced(run, tmp_path):
    """What an attempt left before it was killed is overwritten as well."""
    source = write_wav(tmp_path / "a.wav", 3)
    (tmp_path / "a.mp3").write_bytes(b"older")
    (tmp_path / ".a.mp3.part").write_bytes(b"half done" * 100_000)
    run(lame.convert(source, tmp_path / "a.mp3", TAGS, LAME))
    assert decoded_seconds(tmp_path / "a.mp3") == pytest.approx(3, abs=0.5)
    assert names(tmp_path) == ["a.mp3", "a.wav"]


def test_an_abandoned_lame_does_no_harm(run, tmp_path):
    """The daemon was killed while it wrote, and it goes on."""
    source = write_wav(tmp_path / "a.wav", 3)
    with (tmp_path / ".a.mp3.part").open("wb") as abandoned:
        run(lame.convert(source, tmp_path / "a.mp3", TAGS, LAME))
        abandoned.write(b"x" * 100_000)
    assert decoded_seconds(tmp_path / "a.mp3") == pytest.approx(3, abs=0.5)
    assert names(tmp_path) == ["a.mp3", "a.wav"]


def test_an_empty_recording_is_never_converted(run, tmp_path):
    """LAME would make an MP3 of silence."""
    error = error_of(run, write_wav(tmp_path / "a.wav", 0), tmp_path / "a.mp3")
    assert (error.is_final, error.is_server) == (True, False)
    assert "nothing was recorded" in error.reason
    assert names(tmp_path) == ["a.wav"]


def test_a_recording_whose_header_lies_is_mended_first(run, tmp_path):
    """LAME would take the header's word and lose all of it, with success."""
    source = set_sizes(write_wav(tmp_path / "a.wav", 3), riff=0, data=0)
    error = error_of(run, source, tmp_path / "a.mp3")
    assert (error.is_final, "says 0 bytes" in error.reason) == (False, True)


def test_garbage_is_no_recording(run, tmp_path):
    """LAME would decode it as well as it can, with success."""
    (tmp_path / "a.wav").write_bytes(b"garbage" * 1000)
    error = error_of(run, tmp_path / "a.wav", tmp_path / "a.mp3")
    assert (error.is_final, "no WAV file" in error.reason) == (True, True)


def test_a_recording_that_is_still_written(run, tmp_path):
    """Left alone, tried again."""
    path = write_wav(tmp_path / "a.wav")
    with path.open("ab"):
        error = error_of(run, path, tmp_path / "a.mp3")
    assert (error.is_final, "still writing" in error.reason) == (False, True)


def test_without_lame(run, tmp_path):
    """It says which program is missing; once it is installed, the conversion works."""
    source = write_wav(tmp_path / "a.wav")
    settings = evolve(LAME, program=str(tmp_path / "lame"))
    error = error_of(run, source, tmp_path / "a.mp3", settings)
    assert error.reason == f"{tmp_path}/lame cannot be run: No such file or directory"
    assert not error.is_final
    shutil.copy(shutil.which("lame"), tmp_path / "lame")
    assert run(lame.convert(source, tmp_path / "a.mp3", TAGS, settings)) > 0


def test_lames_own_words(run, tmp_path):
    """Its reason and its status are in the error, on one line, and nothing is left."""
    source = write_wav(tmp_path / "a.wav")
    error = error_of(run, source, Path("/proc/a.mp3"))
    assert error.reason == "lame failed (255): Can't init outfile '/proc/.a.mp3.part'"
    error = error_of(run, source, tmp_path / "a.mp3", program(tmp_path, "echo 'one\n two' >&2; exit 3"))
    assert error.reason.endswith("lame-in-trouble failed (3): one two")
    assert lame.last_words(b"") == "it gave no reason"
    assert names(tmp_path) == ["a.wav", "lame-in-trouble"]


def test_an_mp3_that_is_too_short_is_no_success(run, tmp_path):
    """Here LAME is given half of the recording and ends with success."""
    write_wav(tmp_path / "half.wav", 2)
    settings = program(tmp_path, f'for target; do :; done; exec lame --quiet --cbr -b 24 {tmp_path}/half.wav "$target"')
    error = error_of(run, write_wav(tmp_path / "a.wav", 4), tmp_path / "a.mp3", settings)
    assert "lasts 2.2 s, its WAV 4.0 s" in error.reason
    assert names(tmp_path) == ["a.wav", "half.wav", "lame-in-trouble"]


def test_a_target_that_cannot_be_written(run, tmp_path):
    """Its folder is a file."""
    source = write_wav(tmp_path / "a.wav")
    error = error_of(run, source, source / "a.mp3")
    assert error.reason == f"{source}/a.mp3 cannot be written: File exists"


def test_a_full_disk(tmp_path):
    """Nothing is left on it, and with room the conversion works. The mount is of a namespace of its own."""
    script = (
        "import asyncio, subprocess; from pathlib import Path; from tests.runner.test_recordings_lame import *\n"
        f"source, disk = write_wav(Path('{tmp_path}/a.wav'), 60), Path('{tmp_path}/disk'); disk.mkdir()\n"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=128k', 'none', disk], check=True)\n"
        "try: asyncio.run(lame.convert(source, disk / 'a.mp3', TAGS, LAME))\n"
        "except RecordingError as error: print(error.reason)\n"
        "print(names(disk)); write_wav(source, 5); asyncio.run(lame.convert(source, disk / 'a.mp3', TAGS, LAME))\n"
        "print(names(disk))"
    )
    done = subprocess.run(
        ["unshare", "--mount", sys.executable, "-c", script], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stdout + done.stderr
    assert "failed" in lines[0] or "no good MP3" in lines[0]
    assert lines[1:] == ["[]", "['a.mp3']"]


def test_a_conversion_that_hangs_is_ended(run, tmp_path):
    """Its process is gone when the error is raised."""
    settings = evolve(program(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 1000"), timeout_s=0.5)
    error = error_of(run, write_wav(tmp_path / "a.wav"), tmp_path / "a.mp3", settings)
    assert "did not end within 0.5 s" in error.reason
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_conversion_that_is_cancelled_is_ended(run, tmp_path):
    """No process and no file stays; it stood back behind all else."""
    script = f'for target; do :; done; echo half >"$target"; echo $$ >{tmp_path}/pid; sleep 1000'
    settings = evolve(program(tmp_path, script), nice=7)
    source = write_wav(tmp_path / "a.wav")

    async def story():
        task = asyncio.create_task(lame.convert(source, tmp_path / "a.mp3", TAGS, settings))
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        assert (tmp_path / ".a.mp3.part").exists()
        process = int((tmp_path / "pid").read_text())
        await until(lambda: os.getpriority(os.PRIO_PROCESS, process) == os.nice(0) + 7)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(story())
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert not {".a.mp3.part", "a.mp3"} & set(names(tmp_path))


def test_a_conversion_that_is_cancelled_at_any_moment_leaves_no_process(run, tmp_path):
    """Also in the middle of its start, when nobody has a process to end yet."""
    settings = program(tmp_path, f"echo $$ >>{tmp_path}/pids; sleep 1000; :")
    source = write_wav(tmp_path / "a.wav", 0.1)

    def is_gone(group):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    async def story():
        for moment in range(40):
            task = asyncio.create_task(lame.convert(source, tmp_path / "a.mp3", TAGS, settings))
            for _ in range(moment * moment):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        groups = {int(group) for group in (tmp_path / "pids").read_text().split()}
        assert groups
        # What is killed is there until init has noticed.
        await until(lambda: all(is_gone(group) for group in groups))

    run(story())


def test_no_password_of_ours_reaches_lame(run, tmp_path, monkeypatch):
    """Its environment can be read by others."""
    monkeypatch.setenv("ARIMONITOR_ARI_PASSWORD", "secret")
    settings = program(tmp_path, f"env >{tmp_path}/environment; exit 1")
    error_of(run, write_wav(tmp_path / "a.wav"), tmp_path / "a.mp3", settings)
    assert "secret" not in (tmp_path / "environment").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good MP3 of two seconds."""
    folder = tmp_path_factory.mktemp("mp3")
    asyncio.run(lame.convert(write_wav(folder / "a.wav", 2), folder / "a.mp3", TAGS, LAME))
    return (folder / "a.mp3").read_bytes()


def test_the_length_of_an_mp3_is_known_from_its_beginning(whole):
    """Its tags do not count."""
    assert mp3.read_seconds(whole[: mp3.HEAD_BYTES], len(whole)) == pytest.approx(2.2, abs=0.1)
    mp3.check_length(whole[: mp3.HEAD_BYTES], len(whole), 2.0)
    with pytest.raises(ValueError, match=r"its WAV 9\.0 s"):
        mp3.check_length(whole[: mp3.HEAD_BYTES], len(whole), 9.0)


def test_every_mp3_that_is_cut_is_known(whole):
    """Wherever it is cut, as long as some of the voice is lost, and nothing but ValueError says so."""
    for size in range(0, len(whole) - 24 * 125 // 3, 7):
        with pytest.raises(ValueError, match=r"lasts|frame"):
            mp3.check_length(whole[:size][: mp3.HEAD_BYTES], size, 2.0)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (bytes(100), "no MP3 frame where"),
        (b"\xff\xff" + bytes(100), "is no MP3 frame"),
        (b"\xff\xe3" + bytes(100), "is no MP3 frame"),
        (b"\xff\xeb" + bytes(100), "is no MP3 frame"),
    ],
)
def test_what_is_no_mp3_has_no_length(head, reason):
    """Other bytes, another layer, no rate, a version that does not exist."""
    with pytest.raises(ValueError, match=reason):
        mp3.read_seconds(head, len(head))
