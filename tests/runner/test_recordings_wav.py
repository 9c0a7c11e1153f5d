"""Looking at recordings: is somebody writing to them, are they whole, and what a crash of Asterisk left behind."""

import os
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from arimonitor_runner.recordings import RecordingError, wav
from tests.runner.sounds import set_sizes, write_wav

WRITER = "import sys; file = open(sys.argv[1], 'ab'); print('open', flush=True); sys.stdin.read()"


def frames(path):
    """How many samples Python's own reader sees."""
    with wave.open(str(path)) as file:
        return file.getnframes()


def unvouched(monkeypatch):
    """Make the spool a file system whose kernel does not know all writers."""
    monkeypatch.setattr(wav, "_file_system_of", lambda device: "nfs4")


def test_a_whole_recording_is_finished_at_the_first_look(tmp_path):
    """Where the kernel says that nobody writes, no second look is needed."""
    look = wav.examine(write_wav(tmp_path / "a.wav", 1.5))
    assert (look.status, look.seconds, look.size_bytes, look.reason) == ("finished", 1.5, 24_044, "")


@pytest.mark.parametrize("name", ["none.wav", "a.wav/none.wav"])
def test_a_recording_that_is_not_there(tmp_path, name):
    """Neither a missing file nor a missing folder is a fault of ours."""
    write_wav(tmp_path / "a.wav")
    assert wav.examine(tmp_path / name).status == "missing"
    with pytest.raises(RecordingError, match="no such file"):
        wav.mend(tmp_path / name)


def test_a_recording_that_another_process_writes_is_open(tmp_path):
    """It stays untouched until that process has gone, and we can say who it is."""
    path = write_wav(tmp_path / "a.wav")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"open\n"
        look = wav.examine(path)
        # Size and time are the same twice, and it is open nevertheless.
        assert look.status == wav.examine(path, seen=look).status == "open"
        assert wav.find_holder(path) == writer.pid
        with pytest.raises(RecordingError, match="somebody is still writing"):
            wav.mend(path)
        writer.stdin.close()
    assert wav.examine(path, seen=look).status == "finished"
    assert wav.find_holder(path) is None


def test_a_reader_holds_nothing_up(tmp_path):
    """Somebody who listens to a recording does not keep it from being finished."""
    path = write_wav(tmp_path / "a.wav")
    with path.open("rb"):
        assert wav.examine(path).status == "finished"
        assert wav.find_holder(path) is None
    assert wav.find_holder(tmp_path / "none.wav") is None


def test_without_the_kernels_word_two_equal_looks_decide(tmp_path, monkeypatch):
    """Growth, and a change that keeps the size, begin the wait anew."""
    unvouched(monkeypatch)
    path = write_wav(tmp_path / "a.wav")
    first = wav.examine(path)
    write_wav(path, 2)
    second = wav.examine(path, seen=first)
    os.utime(path, ns=(0, second.modified_ns + 1))
    third = wav.examine(path, seen=second)
    assert [look.status for look in (first, second, third)] == ["growing"] * 3
    assert wav.examine(path, seen=third).status == "finished"


def test_a_file_of_another_user_that_nobody_vouches_for(tmp_path):
    """An unprivileged daemon may not ask the kernel about it, and takes two looks."""
    path = write_wav(tmp_path / "a.wav")
    path.chmod(0o644)
    tmp_path.chmod(0o755)
    script = (
        "import os, sys; from pathlib import Path; from arimonitor_runner.recordings import wav\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534); path = Path('a.wav')\n"
        "first = wav.examine(path); print(first.status, wav.examine(path, seen=first).status)"
    )
    # By way of the working folder: the folders above it may be root's alone.
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(wav.__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.split() == ["growing", "finished"]


@pytest.mark.parametrize("content", [b"", b"RIFF", write_wav])
def test_a_recording_of_nothing_is_empty(tmp_path, content):
    """Asterisk leaves a header alone where no voice came."""
    path = tmp_path / "a.wav"
    if callable(content):
        content(path, 0)
        assert path.stat().st_size == 44
    else:
        path.write_bytes(content)
    look = wav.examine(path)
    assert (look.status, look.can_be_mended) == ("empty", False)
    assert "nothing was recorded" in look.reason
    wav_after = path.read_bytes()
    with pytest.raises(RecordingError) as raised:
        wav.mend(path)
    assert raised.value.is_final
    assert path.read_bytes() == wav_after


@pytest.mark.parametrize("said", [(0, 0), (36, 0), (0xFFFFFFFF, 0xFFFFFFFF), (36, 4000), (40_036, 40_000)])
def test_a_header_that_says_another_size_is_mended(tmp_path, said):
    """Every sample is there again, and the second time there is nothing to do."""
    path = set_sizes(write_wav(tmp_path / "a.wav", 2), riff=said[0], data=said[1])
    look = wav.examine(path)
    assert (look.status, look.seconds, look.can_be_mended) == ("damaged", 2.0, True)
    assert f"says {said[1]} bytes" in look.reason
    wav.mend(path)
    assert wav.examine(path).status == "finished"
    assert path.read_bytes() == write_wav(tmp_path / "whole.wav", 2).read_bytes()
    before = path.stat().st_mtime_ns
    wav.mend(path)
    assert path.stat().st_mtime_ns == before


def test_a_recording_torn_within_a_sample_loses_that_sample(tmp_path):
    """The disk was full, or the power gone."""
    path = write_wav(tmp_path / "a.wav", 1)
    os.truncate(path, 44 + 8001)
    wav.mend(path)
    assert wav.examine(path).seconds == 0.5
    assert frames(path) == 4000


def test_an_interrupted_mending_is_done_again(tmp_path):
    """One size is right and the other is not: the file is whole for us, and nothing was lost."""
    path = set_sizes(write_wav(tmp_path / "a.wav", 1), riff=0, data=16_000)
    wav.mend(path)
    assert wav.examine(path).seconds == 1.0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"garbage" * 100, "no WAV file"),
        (b"RIFF\x00\x00\x00\x00WAVE" + b"data" + bytes(100), "gives no format"),
        (b"RIFF\x00\x00\x00\x00WAVE" + b"junk\x20\x00\x00\x00" + bytes(60), "no samples"),
        (b"RIFF\x00\x00\x00\x00WAVE" + b"fmt \x14\x00\x00\x00\x31\x00" + bytes(60), "encoding 49"),
        (b"RIFF\x00\x00\x00\x00WAVE" + b"fmt \xff\xff\xff\x7f\x01\x00" + bytes(60), "no samples"),
    ],
)
def test_what_is_no_recording_cannot_be_mended(tmp_path, content, reason):
    """It says why, and is left alone."""
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    look = wav.examine(path)
    assert (look.status, look.can_be_mended) == ("damaged", False)
    assert reason in look.reason
    with pytest.raises(RecordingError, match=reason) as raised:
        wav.mend(path)
    assert raised.value.is_final
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("after", "status"), [(b"LIST\x04\x00\x00\x00INFO", "finished"), (b"\x01\x02\x03\x04", "damaged")]
)
def test_other_chunks_are_no_samples(tmp_path, after, status):
    """What follows the samples may be another chunk; before them as well."""
    path = write_wav(tmp_path / "a.wav", 1)
    content = path.read_bytes()
    path.write_bytes(content[:12] + b"JUNK\x03\x00\x00\x00abc\x00" + content[12:] + after)
    look = wav.examine(path)
    assert (look.status, look.can_be_mended) == (status, status == "damaged")


def test_a_recording_that_cannot_be_read(tmp_path):
    """A folder in its place, as an example: an error with the name."""
    with pytest.raises(RecordingError, match=f"{tmp_path} cannot be read"):
        wav.examine(tmp_path)


def test_the_file_system_of_a_device_that_nobody_lists():
    """Not known to be one of the network's."""
    assert wav._file_system_of(os.makedev(4095, 1)) == ""
