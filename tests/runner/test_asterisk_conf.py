"""Asterisk's configuration syntax: each feature, each fault with its line, and any bytes at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arimonitor_runner.directory_sources.asterisk_conf import (
    INCLUDE_DEPTH_MAX,
    LINE_BYTES_MAX,
    ParsedConf,
    parse_conf,
    read_conf,
)
from arimonitor_runner.directory_sources.problems import PROBLEMS_MAX, Problem, ProblemCollector

FIXTURES = Path(__file__).parents[2] / "fixtures" / "directory"


def parsed(text: str) -> ParsedConf:
    return parse_conf(text.encode())


def contents(conf: ParsedConf) -> list[tuple[str, list[tuple[str, str]]]]:
    """Sections with their settings, without places."""
    return [(section.name, [(one.name, one.value) for one in section.settings]) for section in conf.sections]


def good(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    conf = parsed(text)
    assert conf.problems == ()
    return contents(conf)


def complaints(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.text) for problem in parsed(text).problems]


def test_sections_hold_their_settings_in_order() -> None:
    """Both signs, blanks anywhere, keys that repeat, values that hold signs."""
    text = "[one]\na=1\n  b  =>  two words \na = x=y=>z\n\n[two]\n[one]\nc ="
    assert good(text) == [("one", [("a", "1"), ("b", "two words"), ("a", "x=y=>z")]), ("two", []), ("one", [("c", "")])]


def test_a_setting_knows_its_file_and_line() -> None:
    """So that what is wrong with its meaning can be found."""
    conf = parse_conf(b"; first\n\n[a]\nkey = value\n", Path("folder/some.def"))
    section = conf.sections[0]
    assert (section.path, section.line) == ("folder/some.def", 3)
    assert (section.settings[0].path, section.settings[0].line) == ("folder/some.def", 4)


def test_text_behind_the_header_is_ignored() -> None:
    """As Asterisk does: only a parenthesis right behind the bracket counts."""
    assert good("[a] (!)\nx=1\n[b]c\n[c]()\n") == [("a", [("x", "1")]), ("b", []), ("c", [])]


def test_a_template_gives_its_settings_and_is_marked() -> None:
    """Settings of templates come first, in the order named, as they are when the header is read."""
    conf = parsed("[t1](!)\na=1\n[T2](!)\nb=2\n[x](t2, T1)\na=3\n[t1](+)\nlate=1\n[y](!,t1)\n[z](x)")
    assert conf.problems == ()
    assert contents(conf)[2] == ("x", [("b", "2"), ("a", "1"), ("a", "3")])
    assert contents(conf)[3] == ("y", [("a", "1"), ("late", "1")])
    assert contents(conf)[4] == ("z", [("b", "2"), ("a", "1"), ("a", "3")])
    assert [section.is_template for section in conf.sections] == [True, True, False, True, False]


def test_plus_adds_to_the_first_section_of_that_name() -> None:
    """And with templates in the same parentheses, their settings are added too."""
    assert good("[a]\nx=1\n[a]\nx=2\n[A](+)\ny=3\n[t](!)\nz=4\n[a](+,t)\n[a](t,+)") == [
        ("a", [("x", "1"), ("y", "3"), ("z", "4"), ("z", "4")]),
        ("a", [("x", "2")]),
        ("t", [("z", "4")]),
    ]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("+type=aor", 1),
        ("+type=^e", 0),
        ("+ty=o & max=2", 1),
        ("+TEMPLATES=include&type=endpoint", 0),
        ("+TEMPLATES=restrict", 2),
        ("+type=end&TEMPLATES=restrict", 2),
    ],
)
def test_plus_with_conditions_chooses_among_sections_of_one_name(option: str, expected: int) -> None:
    """`[1121](+type=endpoint)`: patterns for keys and values, and whether templates count."""
    conf = parsed(
        f"[1]\ntype=endpoint\n[1]\ntype=aor\nmax=2\n[1](!)\ntype=endpoint\n[1]({option})\nnew=1\n[other]\nx=1"
    )
    assert conf.problems == ()
    assert [any(one.name == "new" for one in section.settings) for section in conf.sections] == [
        index == expected for index in range(4)
    ]


def test_without_conditions_a_section_goes_before_a_template() -> None:
    """Whichever was written first; a template alone is found as well."""
    assert good("[a](!)\n[a]\n[a](+)\nx=1\n[t](!)\n[t](+)\ny=2") == [
        ("a", []),
        ("a", [("x", "1")]),
        ("t", [("y", "2")]),
    ]


def test_plus_equals_appends_to_the_last_value() -> None:
    """Inner blanks stay, outer ones go; without a value to append to it is a plain setting."""
    assert good("[a]\nv = 1\nv = 2\nv += , 3 \nv +=4\nw += 5\nW+=6") == [
        ("a", [("v", "1"), ("v", "2 , 34"), ("w", "5"), ("W", "6")])
    ]


def test_comments_end_lines_and_escaped_semicolons_do_not() -> None:
    """A backslash in front makes a semicolon part of the value."""
    assert good("; c\n[a] ; c\nx = 1;c\ny = a\\;b\\;c ; d\\;e\nz = \\\\;\n;---\nw = 1 ;--- c\n") == [
        ("a", [("x", "1"), ("y", "a;b;c"), ("z", "\\;"), ("w", "1")])
    ]


def test_block_comments_span_lines_nest_and_stand_within_a_line() -> None:
    """What is around them on their first and last line counts."""
    text = "[a]\nx = 1 ;-- one\ny = 2\n;-- deeper --;\n; z\\; = 3\n;--- --; w = 4\nv = a;-- b --;c;-- d --;e ; f\n"
    assert good(text) == [("a", [("x", "1"), ("w", "4"), ("v", "ace")])]


def test_the_end_of_a_block_comment_alone_is_a_plain_comment() -> None:
    """Asterisk takes the rest of the file for a comment; nobody means that."""
    assert good("[a]\nx = 1 --; y\nz = 2") == [("a", [("x", "1 --"), ("z", "2")])]


def test_a_comment_that_never_ends_is_reported_where_it_begins() -> None:
    """It takes the rest of the file with it."""
    assert complaints("[a]\n;-- here\nx = 1\n") == [(2, "the comment that begins here with ;-- never ends")]


def test_a_backslash_in_front_makes_any_first_character_part_of_a_key() -> None:
    """Keys that begin with a bracket, a hash or an equals sign."""
    assert good("[a]\n\\[x] = 1\n\\#y = 2\n\\=z = 3\n\\+=4") == [
        ("a", [("[x]", "1"), ("#y", "2"), ("=z", "3"), ("+", "4")])
    ]


def test_line_ends_byte_order_marks_and_encodings_do_not_matter() -> None:
    """Files come from Windows editors too; a Latin-1 line is read, and said once."""
    conf = parse_conf(b"\xef\xbb\xbf[a]\r\nx = S\xc3\xa3o\r\ny = S\xe3o\r\nz = \xe9\r\nw\t=\t1")
    assert contents(conf) == [("a", [("x", "São"), ("y", "São"), ("z", "é"), ("w", "1")])]
    assert [(problem.line, problem.severity) for problem in conf.problems] == [(3, "note")]


def test_an_overlong_line_is_left_out_alone() -> None:
    """Asterisk skips it too; the longest allowed one is read, and line numbers stay right."""
    longest = "x = " + "1" * (LINE_BYTES_MAX - 4)
    conf = parsed(f"[a]\n{longest}\n{longest}1\n{longest * 3}\nbad\ny = 2\n{longest}1")
    assert [one.name for one in conf.sections[0].settings] == ["x", "y"]
    long_line = f"line longer than {LINE_BYTES_MAX} bytes skipped"
    assert [(one.line, one.text) for one in conf.problems] == [
        (3, long_line),
        (4, long_line),
        (5, "no = in this line"),
        (7, long_line),
    ]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("x = 1\n[a]", 1, "setting before the first section"),
        ("[a]\nnonsense", 2, "no = in this line"),
        ("[a]\n= 1", 2, "no key in front of ="),
        ("[a]\n += 1", 2, "no key in front of ="),
        ("[a]\n\\", 2, "no = in this line"),
        ("[a", 1, "section header without ]; the section is left out"),
        ("\n[a](b", 2, "header of section [a] without ); the section is left out"),
        ("[a](b)", 1, "section [a] inherits from [b], which does not exist; left out"),
        ("[a](+)", 1, "nothing to add to: no section [a]"),
        ("[a]\nx=1\n[a](+x=2)", 3, "nothing to add to: no section [a] x=2"),
        ("[a]\n[a](+x=*)", 2, "bad regular expression in x=*: nothing to repeat at position 0"),
        ("#include", 1, "#include without a file name"),
        ('#tryinclude ""', 1, "#tryinclude without a file name"),
        ("#include nowhere.def", 1, "included file not found: nowhere.def"),
        ("#include a\0b", 1, "included file not found: a\0b"),
        ("#exec /bin/true", 1, "#exec is refused: a directory is read, never run"),
        ("#frobnicate x", 1, "unknown directive #frobnicate"),
        ("#", 1, "unknown directive #"),
    ],
)
def test_each_fault_is_reported_with_its_line(text: str, line: int, reason: str) -> None:
    """And never raised."""
    assert (line, reason) in complaints(text)


def test_a_faulty_section_takes_its_settings_with_it_and_no_other() -> None:
    """The sections around it are whole."""
    text = "[a]\nx=1\n[b](nowhere)\ny=2\n[c\nz=3\n[d](+)\nw=4\n[e]\nv=5"
    assert contents(parsed(text)) == [("a", [("x", "1")]), ("e", [("v", "5")])]


def test_a_file_of_another_kind_gives_a_bounded_number_of_problems() -> None:
    """The rest is counted."""
    problems = parsed("nonsense\n" * (PROBLEMS_MAX + 5)).problems
    assert len(problems) == PROBLEMS_MAX + 1
    assert problems[-1] == Problem("<text>", 0, "5 more problems are not listed")


def test_a_problem_reads_like_a_compilers() -> None:
    """`file:line: severity: text`, without a line where there is none."""
    collector = ProblemCollector()
    collector.add("a.def", 7, "odd", "warning")
    collector.add("b.def", 0, "gone")
    assert [str(problem) for problem in collector.collected()] == ["a.def:7: warning: odd", "b.def: error: gone"]


def test_includes_are_read_in_place(tmp_path: Path) -> None:
    """An included file goes on in the section that includes it; behind it that section goes on."""
    (tmp_path / "main.def").write_text('[a]\nx=1\n#include "sub/one.def"\ny=2\n#TRYINCLUDE <gone.def>\nz=3\n')
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "one.def").write_text("from=one\n[b]\n#include two.def\n")
    (tmp_path / "sub" / "two.def").write_text("from=two\n")
    conf = read_conf(tmp_path / "main.def")
    assert conf.was_read
    assert conf.problems == ()
    assert contents(conf) == [("a", [("x", "1"), ("from", "one"), ("y", "2"), ("z", "3")]), ("b", [("from", "two")])]
    assert conf.sections[1].path == str(tmp_path / "sub" / "one.def")


def test_an_included_name_is_looked_for_beside_the_outermost_file_first(tmp_path: Path) -> None:
    """That is Asterisk's rule; absolute names stand for themselves."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.def").write_text("[a]\n#include sub/one.def\n")
    (tmp_path / "sub" / "one.def").write_text(f"#include two.def\n#include {tmp_path / 'sub' / 'two.def'}\n")
    (tmp_path / "two.def").write_text("two=outer\n")
    (tmp_path / "sub" / "two.def").write_text("two=inner\n")
    assert contents(read_conf(tmp_path / "main.def")) == [("a", [("two", "outer"), ("two", "inner")])]


def test_a_pattern_includes_every_file_in_the_order_of_names(tmp_path: Path) -> None:
    """A folder that matches is no file, and is said."""
    for name in ("b", "a", "c"):
        (tmp_path / f"client-{name}.def").write_text(f"[{name}]\n")
    (tmp_path / "client-folder.def").mkdir()
    (tmp_path / "main.def").write_text("#include client-*.def\n")
    conf = read_conf(tmp_path / "main.def")
    assert [section.name for section in conf.sections] == ["a", "b", "c"]
    assert [problem.text for problem in conf.problems] == ["cannot be read: not a regular file"]


def test_a_file_that_includes_itself_is_read_once(tmp_path: Path) -> None:
    """However the circle closes: directly, by way of another file, or by a symbolic link."""
    (tmp_path / "main.def").write_text("[a]\n#include main.def\n#include other.def\n#include link.def\nx=1\n")
    (tmp_path / "other.def").write_text("#include main.def\n")
    (tmp_path / "link.def").symlink_to("main.def")
    conf = read_conf(tmp_path / "main.def")
    assert contents(conf) == [("a", [("x", "1")])]
    assert [(Path(one.path).name, one.line, one.text) for one in conf.problems] == [
        ("main.def", 2, "main.def includes itself; left out here"),
        ("other.def", 1, "main.def includes itself; left out here"),
        ("main.def", 4, "link.def includes itself; left out here"),
    ]


def test_includes_have_a_depth_like_asterisks(tmp_path: Path) -> None:
    """Ten files within the first one, no more."""
    for depth in range(INCLUDE_DEPTH_MAX + 2):
        (tmp_path / f"{depth}.def").write_text(f"[d{depth}]\n#include {depth + 1}.def\n")
    conf = read_conf(tmp_path / "0.def")
    assert [section.name for section in conf.sections] == [f"d{depth}" for depth in range(INCLUDE_DEPTH_MAX + 1)]
    assert [problem.text for problem in conf.problems] == [
        f"included files more than {INCLUDE_DEPTH_MAX} deep; {INCLUDE_DEPTH_MAX + 1}.def is left out"
    ]


def test_a_comment_does_not_reach_into_or_out_of_an_included_file(tmp_path: Path) -> None:
    """An open comment ends with its file, which is a fault there."""
    (tmp_path / "main.def").write_text("[a]\n#include sub.def\nx=1\n")
    (tmp_path / "sub.def").write_text("y=2\n;-- open\n")
    conf = read_conf(tmp_path / "main.def")
    assert contents(conf) == [("a", [("y", "2"), ("x", "1")])]
    assert [(Path(one.path).name, one.line) for one in conf.problems] == [("sub.def", 2)]


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """Absent, a folder, a pipe that nobody writes to, or a symbolic link to itself."""
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to("loop")
    for path, reason in [
        (tmp_path / "gone", "cannot be read: No such file or directory"),
        (tmp_path, "cannot be read: not a regular file"),
        (pipe, "cannot be read: not a regular file"),
        (loop, "cannot be read: Too many levels of symbolic links"),
    ]:
        conf = read_conf(path)
        assert not conf.was_read
        assert [(problem.path, problem.line, problem.text) for problem in conf.problems] == [(str(path), 0, reason)]


def test_real_endpoints_parse_without_a_problem() -> None:
    """The provider's own file: endpoint, auth and aor of one name stay apart."""
    conf = read_conf(FIXTURES / "endpoints_pjsip.def")
    assert conf.problems == ()
    types = [section.find_last("type") for section in conf.sections if section.name == "1121"]
    assert [setting and setting.value for setting in types] == ["endpoint", "auth", "aor"]


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="[]()=;\\#+\n", min_codepoint=33), min_size=1, max_size=8
)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\n", min_codepoint=32), max_size=12)


@given(sections=st.lists(st.tuples(NAMES, st.lists(st.tuples(NAMES, VALUES), max_size=4)), max_size=4))
def test_what_is_written_by_the_rules_is_read_back(sections: list[tuple[str, list[tuple[str, str]]]]) -> None:
    """Any names and values, semicolons escaped as Asterisk escapes them."""
    text = ""
    for name, settings in sections:
        text += f"[{name}]\n"
        for key, value in settings:
            text += f"{key} => {value}\n".replace(";", "\\;")
    expected = [(name, [(key, value.strip(" ")) for key, value in settings]) for name, settings in sections]
    assert good(text) == expected


@given(text=st.binary(max_size=300) | st.text('[]()!+=;-\\#&<>"\n\r \0aT*', max_size=120).map(str.encode))
def test_any_bytes_are_read_without_raising(text: bytes) -> None:
    """And every problem points at a line that is there."""
    conf = parse_conf(text)
    lines = text.count(b"\n") + 1
    assert all(1 <= problem.line <= lines and problem.text for problem in conf.problems)
