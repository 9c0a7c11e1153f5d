r"""Asterisk's configuration syntax, read as Asterisk reads it (`main/config.c`).

::

    [name]              a section; several may share a name
    [name](!)           a template: inherited from, otherwise ignored
    [name](a,b)         begins with the settings of sections a and b, in that order
    [name](+)           adds to the first section of that name
    [name](+k=v&m=n)    ... in which settings match (regular expressions); TEMPLATES=include or restrict as well
    key = value         also key => value; a key may stand several times
    key += more         appended to the last value of that key
    ; comment           to the end of the line; \; is a semicolon
    ;-- comment --;     over several lines, nested if need be
    #include "file"     also <file>, bare names, and patterns such as clients/*.def
    #tryinclude "file"  silent when the file does not exist

Section names are compared without regard to case, keys are kept as written. Where Asterisk refuses a whole file for one
fault, this reader reports the fault with its line and leaves out only what the fault makes meaningless: the setting or
the section. `#exec` runs a program and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from glob import glob
from io import BytesIO
from os.path import realpath
from pathlib import Path
from typing import BinaryIO

from attrs import Factory, define, frozen

from arimonitor_runner.directory_sources.problems import Problem, ProblemCollector, Severity

LINE_BYTES_MAX = 8190
"""Asterisk skips a longer line; so do we."""
INCLUDE_DEPTH_MAX = 10
"""As in Asterisk: files within files."""

_BLANKS = "".join(map(chr, range(33)))
"""What Asterisk strips: every character up to the space."""

_DIRECTIVE = re.compile(r"[^\0- ]*")


@frozen
class Setting:
    """One `key = value`."""

    name: str
    value: str
    path: str
    """The file that it stands in."""
    line: int
    """From 1."""


@define(eq=False)
class Section:
    """One `[name]` with its settings, those of its templates first."""

    name: str
    path: str
    line: int
    is_template: bool = False
    settings: list[Setting] = Factory(list)

    def find_all(self, *names: str) -> list[Setting]:
        """The settings of these names (lower case; compared without regard to case), in order; may be empty."""
        return [setting for setting in self.settings if setting.name.lower() in names]

    def find_last(self, *names: str) -> Setting | None:
        """The setting that counts where a key may stand only once: the last overrides those of the templates."""
        found = self.find_all(*names)
        return found[-1] if found else None

    def has(self, name: re.Pattern[str], value: re.Pattern[str]) -> bool:
        """Does a setting's name and value hold these patterns?"""
        return any(name.search(setting.name) and value.search(setting.value) for setting in self.settings)


@frozen
class ParsedConf:
    """What a file and the files that it includes hold."""

    sections: tuple[Section, ...]
    """In the order written, templates among them."""
    problems: tuple[Problem, ...]
    was_read: bool
    """False: the file itself could not be read, a problem says why."""


def read_conf(path: Path) -> ParsedConf:
    """Read a file with all that it includes; faults of any kind become problems."""
    reader = _Reader(path.parent)
    was_read = reader.read_file(path)
    return ParsedConf(tuple(reader.sections), reader.problems.collected(), was_read)


def parse_conf(text: bytes, path: Path = Path("<text>")) -> ParsedConf:
    """Read text that is held in memory; what it includes is looked for beside `path`."""
    reader = _Reader(path.parent)
    reader.read_lines(BytesIO(text), str(path))
    return ParsedConf(tuple(reader.sections), reader.problems.collected(), was_read=True)


class _Reader:
    """The state of reading one file and its includes."""

    def __init__(self, base: Path) -> None:
        self.sections: list[Section] = []
        self.problems = ProblemCollector()
        self._base = base
        self._by_name: dict[str, list[Section]] = {}
        self._open_files: list[str] = []
        """Real paths, outermost first: a file that includes itself would never end."""
        self._current: Section | None = None
        """The section that settings go to; None before the first."""
        self._path = ""
        self._line = 0

    def read_file(self, path: Path) -> bool:
        """Read one file; False (with a problem) if that cannot be done at all."""
        try:
            # Only a regular file ends for sure: a device or a pipe may not.
            if path.exists() and not path.is_file():
                return self._refuse_file(path, "not a regular file")
            with path.open("rb") as stream:
                self._open_files.append(realpath(path))
                try:
                    self.read_lines(stream, str(path))
                finally:
                    self._open_files.pop()
        except OSError as error:
            return self._refuse_file(path, error.strerror or type(error).__name__)
        return True

    def read_lines(self, stream: BinaryIO, path: str) -> None:
        """Read the lines of one file, then point back at the line that included it."""
        including = (self._path, self._line)
        self._path, self._line = path, 0
        comments = _CommentStripper()
        is_latin = False
        for line in _bounded_lines(stream):
            self._line += 1
            if len(line.rstrip(b"\n")) > LINE_BYTES_MAX:
                self._report(f"line longer than {LINE_BYTES_MAX} bytes skipped")
                continue
            try:
                text = line.decode("utf-8-sig" if self._line == 1 else "utf-8")
            except UnicodeDecodeError:
                text = line.decode("latin-1")
                if not is_latin:
                    self._report("not UTF-8; this and other such lines are read as Latin-1", "note")
                is_latin = True
            self._read_line(comments.strip(text, self._line).strip(_BLANKS))
        if comments.opened_at:
            self.problems.add(path, comments.opened_at[-1], "the comment that begins here with ;-- never ends")
        self._path, self._line = including

    def _read_line(self, text: str) -> None:
        if not text:
            return
        if text[0] == "[":
            self._current = self._read_header(text)
        elif text[0] == "#":
            self._read_directive(text)
        else:
            self._read_setting(text)

    def _read_header(self, text: str) -> Section:
        """Begin a section; one whose header is faulty takes its settings with it."""
        name, closing, rest = text[1:].partition("]")
        section = Section(name, self._path, self._line)
        if not closing:
            self._report("section header without ]; the section is left out")
            return section
        if not rest.startswith("("):
            self._keep(section)
            return section
        options, closing, _ = rest[1:].partition(")")
        if not closing:
            self._report(f"header of section [{name}] without ); the section is left out")
            return section
        return self._apply_options(section, [option.strip(_BLANKS) for option in options.split(",")])

    def _apply_options(self, section: Section, options: list[str]) -> Section:
        """Do what stands in the parentheses; gives the section that the settings below go to."""
        target = section
        for option in options:
            if option == "!":
                target.is_template = True
            elif option.startswith("+"):
                found = self._find_section(section.name, option[1:])
                if found is None:
                    self._report(f"nothing to add to: no section [{section.name}] {option[1:]}".rstrip())
                    return section
                found.settings.extend(target.settings)
                target = found
            elif option:
                base = self._find_section(option, "TEMPLATES=include")
                if base is None:
                    self._report(f"section [{section.name}] inherits from [{option}], which does not exist; left out")
                    return section
                target.settings.extend(base.settings)
        if target is section:
            self._keep(section)
        return target

    def _keep(self, section: Section) -> None:
        self.sections.append(section)
        self._by_name.setdefault(section.name.lower(), []).append(section)

    def _find_section(self, name: str, conditions: str) -> Section | None:
        """The first section of that name that meets the conditions of `(+...)`; sections go before templates."""
        found = self._by_name.get(name.lower(), [])
        with_templates = False
        for condition in filter(None, conditions.split("&")):
            key, _, value = (part.strip(_BLANKS) for part in condition.partition("="))
            if key == "TEMPLATES":
                with_templates = True
                found = [section for section in found if section.is_template or value.lower() != "restrict"]
                continue
            try:
                key_pattern, value_pattern = re.compile(key), re.compile(value)
            except re.error as error:
                self._report(f"bad regular expression in {condition}: {error}")
                return None
            found = [section for section in found if section.has(key_pattern, value_pattern)]
        if not with_templates:
            found = sorted(found, key=lambda section: section.is_template)
        return found[0] if found else None

    def _read_directive(self, text: str) -> None:
        directive = _DIRECTIVE.match(text[1:])[0]  # type: ignore[index]  # it matches any text
        name = _unquoted(text[1 + len(directive) :].strip(_BLANKS))
        match directive.lower():
            case "include" | "tryinclude" if not name:
                self._report(f"#{directive} without a file name")
            case "include":
                if not self._include(name):
                    self._report(f"included file not found: {name}")
            case "tryinclude":
                self._include(name)
            case "exec":
                self._report("#exec is refused: a directory is read, never run")
            case _:
                self._report(f"unknown directive #{directive[:40]}", "warning")

    def _include(self, name: str) -> bool:
        """Read the files of an include, in the order of their names; False where there is none."""
        if len(self._open_files) > INCLUDE_DEPTH_MAX:
            self._report(f"included files more than {INCLUDE_DEPTH_MAX} deep; {name} is left out")
            return True
        paths = self._find_files(name)
        for path in paths:
            if realpath(path) in self._open_files:
                self._report(f"{name} includes itself; left out here")
            else:
                # The included file goes on in this section; its own sections end with it.
                current = self._current
                self.read_file(path)
                self._current = current
        return bool(paths)

    def _find_files(self, name: str) -> list[Path]:
        """Look beside the outermost file, as Asterisk does, then beside the one that includes."""
        for folder in (self._base, Path(self._path).parent):
            found = sorted(glob(name, root_dir=folder))
            if found:
                return [folder / path for path in found]
        return []

    def _read_setting(self, text: str) -> None:
        if self._current is None:
            self._report("setting before the first section")
            return
        # A backslash in front takes the meaning from a key's first character, such as [ or #.
        first = 1 if text[0] == "\\" else 0
        text = text[first:]
        at = text.find("=", first)
        if at < 0:
            self._report("no = in this line")
            return
        is_appended = at > first and text[at - 1] == "+"
        name = text[: at - is_appended].strip(_BLANKS)
        value = text[at + 1 :]
        if not name:
            self._report("no key in front of =")
        elif is_appended:
            self._append_value(self._current, name, value)
        else:
            self._current.settings.append(self._setting(name, value.removeprefix(">")))

    def _append_value(self, section: Section, name: str, value: str) -> None:
        for index in range(len(section.settings) - 1, -1, -1):
            before = section.settings[index]
            if before.name == name:
                section.settings[index] = self._setting(name, before.value + value)
                return
        section.settings.append(self._setting(name, value))

    def _setting(self, name: str, value: str) -> Setting:
        return Setting(name, value.strip(_BLANKS), self._path, self._line)

    def _report(self, text: str, severity: Severity = "error") -> None:
        self.problems.add(self._path, self._line, text, severity)

    def _refuse_file(self, path: Path, reason: str) -> bool:
        self.problems.add(str(path), 0, f"cannot be read: {reason}")
        return False


@define
class _CommentStripper:
    """Takes comments out of one file's lines."""

    opened_at: list[int] = Factory(list)
    """The lines where the open ;-- comments began, outermost first."""

    def strip(self, text: str, line: int) -> str:
        """What is left of a line."""
        kept: list[str] = []
        start = at = 0
        while (found := text.find(";", at)) >= 0:
            at = found + 1
            if found > 0 and text[found - 1] == "\\":
                if not self.opened_at:
                    kept.append(text[start : found - 1])
                    start = found
            elif text.startswith(";--", found) and text[found + 3 : found + 4] != "-":
                if not self.opened_at:
                    kept.append(text[start:found])
                self.opened_at.append(line)
                at = start = found + 3
            elif not self.opened_at:
                return "".join([*kept, text[start:found]])
            elif text.endswith("--", start, found):
                self.opened_at.pop()
                start = at
        return "".join(kept) if self.opened_at else "".join([*kept, text[start:]])


def _unquoted(name: str) -> str:
    """A file name without its "quotes" or <brackets>."""
    if len(name) > 1 and (name[0], name[-1]) in {('"', '"'), ("<", ">")}:
        return name[1:-1]
    return name


def _bounded_lines(stream: BinaryIO) -> Iterator[bytes]:
    """The lines of a stream; of an overlong one only so much that it is seen to be overlong."""
    while line := stream.readline(LINE_BYTES_MAX + 2):
        yield line
        rest = line
        while not rest.endswith(b"\n") and rest:
            rest = stream.readline(LINE_BYTES_MAX + 2)
