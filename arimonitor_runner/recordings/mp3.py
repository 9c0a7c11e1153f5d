"""How long is an MP3 of constant rate? Its first frame and its size tell, on a far server as well.

LAME's exit status does not say that all is there: it converts garbage with success, and ends with success where a WAV's
header says less than there is.
"""

from __future__ import annotations

HEAD_BYTES = 8192
"""So much of the beginning is enough: our tags are short."""

_MPEG_1, _MPEG_2, _MPEG_2_5 = 3, 2, 0
_LAYER_3 = 1
_KBIT_S_MPEG_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBIT_S_MPEG_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
_KBIT_S = {_MPEG_1: _KBIT_S_MPEG_1, _MPEG_2: _KBIT_S_MPEG_2, _MPEG_2_5: _KBIT_S_MPEG_2}


def read_seconds(head: bytes, size_bytes: int) -> float:
    """The length of an MP3 of constant rate of which these are the first bytes, `HEAD_BYTES` or all.

    Raises:
        ValueError: it is no MP3; the text says why.
    """
    start = _skip_id3(head)
    frame = head[start : start + 4]
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        raise ValueError("no MP3 frame where the first one should be")
    version, layer = (frame[1] >> 3) & 3, (frame[1] >> 1) & 3
    kbit_s = _KBIT_S[version][frame[2] >> 4] if version in _KBIT_S and layer == _LAYER_3 else 0
    if not kbit_s:
        raise ValueError("its first frame is no MP3 frame")
    return (size_bytes - start) / (kbit_s * 125)


def check_length(head: bytes, size_bytes: int, wav_seconds: float) -> None:
    """Is it an MP3, and as long as its WAV?

    Raises:
        ValueError: it is not; the text says why.
    """
    seconds = read_seconds(head, size_bytes)
    # The encoder adds some frames of at most 72 ms, and never takes anything away.
    if not wav_seconds - 0.05 <= seconds <= wav_seconds + 1:
        raise ValueError(f"it lasts {seconds:.1f} s, its WAV {wav_seconds:.1f} s")


def _skip_id3(head: bytes) -> int:
    """Where the tag at the beginning ends; 0 where there is none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    # Seven bits of each byte count.
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
