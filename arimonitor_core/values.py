"""Small pure functions on what Asterisk and the directory write: times, names, numbers, identifiers."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from arimonitor_core.call import CallKey

SPECIAL_EXTENSIONS: Final = frozenset({"", "s", "h", "i", "t", "T", "o", "a", "e", "failed"})
"""Extensions of the dialplan that name no number (Asterisk's standard extensions)."""

_UNIQUE_SUFFIX: Final = re.compile(r"-[0-9a-fA-F]{4,16}(;[12])?$")
_SIGNS: Final = frozenset("+-")
_LENGTH_MAX: Final = len("2026-11-22T06:28:59.061-03:00")
_MINUTES: Final[dict[str, int]] = {}
"""Where minutes seen of late begin, by their text: what stands between its last colon and its zone is left out."""
_MINUTES_LIMIT: Final = 256
_SECONDS: Final = {f"{number:02}.": number * 1000 for number in range(60)}
_MILLISECONDS: Final = {f"{number:03}": number for number in range(1000)}
_NUMBER: Final = re.compile(r"\+?[0-9*#]+")


def parse_time_ms(text: str) -> int | None:
    """Milliseconds since the Unix epoch of an ARI time such as ``2026-11-22T06:28:59.061-0300``; None if it is none."""
    # But for seconds and milliseconds, a PBX's times change once a minute.
    minute_ms = _MINUTES.get(text[:17] + text[23:])
    second_ms = _SECONDS.get(text[17:20])
    milliseconds = _MILLISECONDS.get(text[20:23])
    if minute_ms is None or second_ms is None or milliseconds is None:
        return _parse_new_minute(text)
    return minute_ms + second_ms + milliseconds


def _parse_new_minute(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    at_ms = round(moment.timestamp() * 1000)
    second_ms = _SECONDS.get(text[17:20])
    milliseconds = _MILLISECONDS.get(text[20:23])
    if second_ms is not None and milliseconds is not None and text[23:24] in _SIGNS and len(text) <= _LENGTH_MAX:
        if len(_MINUTES) >= _MINUTES_LIMIT:
            _MINUTES.clear()
        _MINUTES[text[:17] + text[23:]] = at_ms - second_ms - milliseconds
    return at_ms


def derive_guid(server: str, key: CallKey, created_ms: int) -> str:
    """The call's UUIDv7: a pure function of server name, creationtime and channel id.

    48 bits of Unix milliseconds, then version, variant and 74 bits of a BLAKE2b digest where RFC 9562 has random ones.
    """
    digest = blake2b(f"{server}\0{key.creationtime}\0{key.channel_id}".encode(), digest_size=10).hexdigest()
    milliseconds = f"{created_ms & 0xFFFF_FFFF_FFFF:012x}"
    variant = "89ab"[int(digest[4], 16) & 3]
    return f"{milliseconds[:8]}-{milliseconds[8:]}-7{digest[:3]}-{variant}{digest[5:8]}-{digest[8:]}"


def is_number(text: str) -> bool:
    """Is it something that a person can dial?"""
    return (text.isascii() and text.isdigit()) or _NUMBER.fullmatch(text) is not None  # nearly all are plain digits


def is_dialable(exten: str) -> bool:
    """Does this dialplan extension say whom somebody wants to reach?"""
    return exten not in SPECIAL_EXTENSIONS


def endpoint_of_channel(name: str) -> str:
    """1121 of ``PJSIP/1121-0000002a``; 1132 of ``Local/1132@membro-00000001;1``; the rest as it is."""
    resource = _UNIQUE_SUFFIX.sub("", name.partition("/")[2] or name)
    return resource.partition("@")[0] if name.startswith("Local/") else resource


@lru_cache(maxsize=1024)  # phones are dialed again and again
def dialed_number(dialstring: str) -> str:
    """The number in a Dial event's dialstring: ``1122``, ``PJSIP/1142``, ``1132@membro``, ``trunk/sip:5511@host``."""
    parts = [part.removeprefix("sip:").partition("@")[0] for part in dialstring.split("/")]
    numbers = [part for part in parts if is_number(part)]
    return numbers[-1] if numbers else ""


def other_half(name: str) -> str:
    """Name of the other half of a Local channel."""
    return name[:-1] + ("2" if name.endswith("1") else "1")


def is_local_half(name: str) -> bool:
    """Is it one of the two halves of a Local channel?"""
    return name.endswith((";1", ";2")) and name.startswith("Local/")


def host_of_uri(uri: str) -> str:
    """Host of a SIP contact: 10.0.0.7 of ``sip:1121@10.0.0.7:5060;transport=udp``; IPv6 without brackets."""
    address = uri.partition(";")[0].rpartition("@")[2]
    address = address.removeprefix("sips:").removeprefix("sip:")
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0]


def recording_url(base_url: str, path: str) -> str:
    """URL of the MP3 made of a recording: the base and the file's stem. Both kinds of slashes end a directory."""
    file_name = path.replace("\\", "/").rpartition("/")[2]
    stem, dot, _ = file_name.rpartition(".")
    return f"{base_url.rstrip('/')}/{stem if dot else file_name}.mp3"


def seconds(milliseconds: int) -> int:
    """Whole seconds, never negative: events of different channels may step back in time."""
    return max(0, milliseconds // 1000)


def without(ids: tuple[str, ...], one: str) -> tuple[str, ...]:
    """The ids but for one, which may be missing; each stands once."""
    if one not in ids:
        return ids
    place = ids.index(one)
    return ids[:place] + ids[place + 1 :]
