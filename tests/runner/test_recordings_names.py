"""Paths come from a channel variable: whatever they say, no file outside of the spool is touched."""

import pytest

from arimonitor_runner.recordings import RecordingError
from arimonitor_runner.recordings.names import Spool, name_mp3


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/var/spool/asterisk/monitor/20261122-1131-1795345117.3.wav", "20261122-1131-1795345117.3.mp3"),
        ("a.WAV", "a.mp3"),
        (r"C:\spool\a.wav", "a.mp3"),
        ("/m/a+b=c@d,e_f.wav", "a+b=c@d,e_f.mp3"),
        ("/m/.hidden.wav", ""),
        ("/m/-n.wav", ""),
        ("/m/a b.wav", ""),
        ("/m/a\nb.wav", ""),
        ("/m/a.wav\n", ""),
        ("/m/a\0.wav", ""),
        ("/m/$(reboot).wav", ""),
        ("/m/a;b.wav", ""),
        ("/m/ação.wav", ""),
        ("/m/a.gsm", ""),
        ("/m/.wav", ""),
        ("/m/", ""),
        ("", ""),
        ("/m/" + "a" * 201 + ".wav", ""),
    ],
)  # fmt: skip
def test_only_a_plain_name_is_one(path, name):
    """Letters, digits and what is harmless in a shell, a URL and FTP."""
    assert name_mp3(path) == name


@pytest.fixture
def spool(tmp_path):
    """Two folders, the second reached by a link; beside them a file that is nobody's business."""
    (tmp_path / "monitor" / "sub").mkdir(parents=True)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "secret.wav").write_bytes(b"")
    return Spool([tmp_path / "monitor", tmp_path / "link"], [f"/pbx/spool={tmp_path}/monitor"])


def test_a_file_in_the_spool_is_found_whether_or_not_it_is_there_yet(spool, tmp_path):
    """In a folder below, through a link to a folder, and as Asterisk in its chroot calls it."""
    assert spool.locate(f"{tmp_path}/monitor/a.wav") == tmp_path / "monitor" / "a.wav"
    assert spool.locate(f"{tmp_path}/monitor/sub/a.wav") == tmp_path / "monitor" / "sub" / "a.wav"
    assert spool.locate(f"{tmp_path}/link/a.wav") == tmp_path / "real" / "a.wav"
    assert spool.locate("/pbx/spool/sub/a.wav") == tmp_path / "monitor" / "sub" / "a.wav"


def test_what_leads_elsewhere_is_refused_for_good(spool, tmp_path):
    """By dots, by a link, by a prefix that is only similar, or plainly."""
    (tmp_path / "monitor" / "away.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "monitor" / "out").symlink_to(tmp_path)
    (tmp_path / "monitor" / "round.wav").symlink_to("round.wav")
    (tmp_path / "monitor" / "odd.wav").symlink_to(tmp_path / "monitor" / ".odd name")
    for path in (
        f"{tmp_path}/monitor/../secret.wav",
        f"{tmp_path}/monitor/away.wav",
        f"{tmp_path}/monitor/out/secret.wav",
        f"{tmp_path}/monitor/odd.wav",
        f"{tmp_path}/monitor/round.wav",
        f"{tmp_path}/monitor-2/a.wav",
        f"{tmp_path}/secret.wav",
        "/pbx/spool/../secret.wav",
        "/pbx/spool-2/a.wav",
        "a.wav",
        f"{tmp_path}/monitor\0/a.wav",
    ):
        with pytest.raises(RecordingError, match=r"^refused: ") as refused:
            assert spool.locate(path) is None
        assert refused.value.is_final


def test_a_map_that_is_none_is_a_clear_error():
    """It is found at the start, not with the first call."""
    for item in ("/a", "a=/b", "/a=b", "="):
        with pytest.raises(ValueError, match="is not PREFIX=FOLDER"):
            Spool([], [item])
