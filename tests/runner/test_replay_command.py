"""`arimonitor replay`: the messages of a log, byte for byte, and what is said when something is wrong."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from arimonitor_core.effects import PublishMessage
from arimonitor_core.inputs import AriEventReceived, Input
from arimonitor_core.monitor import Monitor
from arimonitor_core.records import encode_record
from arimonitor_runner.cli import main
from arimonitor_runner.commands.replay import PROGRESS_BYTES_MIN
from arimonitor_runner.directory_sources.text import load_directory
from arimonitor_runner.log_files import read_records

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "fixtures"
DIRECTORY = FIXTURES / "directory"


def capture(name: str, version: str = "asterisk-22") -> str:
    (path,) = (FIXTURES / "captures" / version).glob(f"{name}.ndjson*")
    return str(path)


ANSWERED = capture("answered_caller_hangs_up")
TRANSFER = capture("blind_transfer")


def refuse(name: str, line: int, text: str) -> None:
    raise AssertionError(f"{name}:{line}: {text}")


def bodies_of(*names: str, server: str = "voip1") -> list[bytes]:
    """What the core itself says of the logs."""
    monitor = Monitor(server=server, directory=load_directory(DIRECTORY, {}).directory)
    records: list[Input] = list(read_records(names, refuse))
    effects = [effect for record in records for effect in monitor.handle(record)]
    return [effect.body for effect in effects if isinstance(effect, PublishMessage)]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["replay", *arguments])


def run_process(*arguments: str, **options) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "arimonitor_runner.cli", "replay", *arguments]
    return subprocess.run(command, capture_output=True, check=False, cwd=ROOT, **options)


def test_messages_are_printed_one_a_line_exactly_as_published() -> None:
    """In order, and nothing else."""
    result = run(ANSWERED, "--directory", str(DIRECTORY))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout_bytes.splitlines() == bodies_of(ANSWERED)
    statuses = [json.loads(line)["data"].get("channelstatus") for line in result.stdout.splitlines()]
    assert [status for status in statuses if status][:3] == ["open", "oncall", "closed"]


def test_several_logs_are_one_stream() -> None:
    """Call numbers go on from one to the next."""
    result = run(ANSWERED, TRANSFER, "--directory", str(DIRECTORY))
    assert result.stdout_bytes.splitlines() == bodies_of(ANSWERED, TRANSFER)


def test_the_servers_name_makes_other_guids() -> None:
    """It stands in the messages as well."""
    result = run(ANSWERED, "--directory", str(DIRECTORY), "--server", "voip2")
    assert result.stdout_bytes.splitlines() == bodies_of(ANSWERED, server="voip2") != bodies_of(ANSWERED)


def test_without_a_directory_every_number_is_unknown() -> None:
    """Calls are followed all the same."""
    data = json.loads(run(ANSWERED).stdout.splitlines()[0])
    assert data["operation"]["vhost"] == ""


def test_the_output_depends_on_nothing_around_it() -> None:
    """Time zone, hash seed and locale differ; the bytes do not. Standard input is as good as a file."""
    outputs = set()
    for zone, seed in (("UTC", "0"), ("America/Sao_Paulo", "1"), ("Asia/Kathmandu", "4711")):
        environment = {**os.environ, "TZ": zone, "PYTHONHASHSEED": seed, "LC_ALL": "C"}
        done = run_process(TRANSFER, "--directory", str(DIRECTORY), env=environment)
        assert (done.returncode, done.stderr) == (0, b"")
        outputs.add(done.stdout)
    packed = Path(TRANSFER).read_bytes()
    outputs.add(run_process("-", "--directory", str(DIRECTORY), input=packed).stdout)
    assert [output.splitlines() for output in outputs] == [bodies_of(TRANSFER)]


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    """`arimonitor replay ... | head -1` says nothing on standard error."""
    log = tmp_path / "log"
    lines = b"".join(encode_record(record) for record in read_records([TRANSFER], refuse))
    log.write_bytes(lines * 30)
    command = f"{sys.executable} -m arimonitor_runner.cli replay {log} --directory {DIRECTORY} | head -1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True, cwd=ROOT)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_damaged_lines_are_named_and_skipped_and_the_status_says_so(tmp_path: Path) -> None:
    """`file:line: what` on standard error; the rest is replayed."""
    lines = gzip.decompress(Path(ANSWERED).read_bytes()) if ANSWERED.endswith(".gz") else Path(ANSWERED).read_bytes()
    log = tmp_path / "log"
    log.write_bytes(b"garbage\n" + lines + b'{"received_at":1}\n')
    result = run(str(log), "--directory", str(DIRECTORY))
    assert result.exit_code == 1
    assert result.stdout_bytes.splitlines() == bodies_of(ANSWERED)
    last = lines.count(b"\n") + 2
    assert result.stderr.splitlines() == [
        f"{log}:1: not a line of JSON with an object in it: JSON is malformed: invalid character (byte 0)",
        f"{log}:{last}: no kind of record has received_at and these keys: none",
    ]


def test_a_directorys_faults_are_told_and_the_replay_goes_on(tmp_path: Path) -> None:
    """Status 0: the messages are whole as far as the directory is."""
    for path in DIRECTORY.glob("*.[Dd][Ee][Ff]"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "__CLIENTES__.DEF").open("a") as clients:
        clients.write("\n[112x]\nvhost = x\nunknown = y\n[113](+)\nunknown = y\n")
    result = run(ANSWERED, "--directory", str(tmp_path))
    assert result.exit_code == 0
    assert result.stdout_bytes.splitlines() == bodies_of(ANSWERED)
    assert "warning: [112x] is neither a client's code of 3 digits nor [ia]; left out\n" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_directory_that_is_none_stops_the_replay(tmp_path: Path) -> None:
    """Status 2 and a clear word, before anything is printed."""
    result = run(ANSWERED, "--directory", str(tmp_path / "gone"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no directory: neither its clients nor its endpoints can be read" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["no-such-file"], ["-", "-"], [str(DIRECTORY)], [ANSWERED, "--format", "x"]])
def test_a_wrong_command_line_is_explained(arguments: list[str]) -> None:
    """Status 2, as for every command."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_strict_shows_what_the_core_complains_of(tmp_path: Path) -> None:
    """Without it a malformed event is counted and passed over."""
    log = tmp_path / "log"
    log.write_bytes(encode_record(AriEventReceived(7.5, b"no event")))
    assert run(str(log)).exit_code == 0
    result = run(str(log), "--strict")
    assert result.exit_code == 1
    assert result.stderr.startswith("7.500000: warning: ")
    assert run(ANSWERED, "--strict", "--directory", str(DIRECTORY)).exit_code == 0


def expectation(tmp_path: Path, *bodies: bytes) -> str:
    path = tmp_path / "expected.ndjson"
    path.write_bytes(b"".join(body + b"\n" for body in bodies))
    return str(path)


def expect(tmp_path: Path, *bodies: bytes) -> Result:
    return run(ANSWERED, "--directory", str(DIRECTORY), "--expect", expectation(tmp_path, *bodies))


def test_what_came_out_before_comes_out_again(tmp_path: Path) -> None:
    """Nothing is printed but how many messages agreed."""
    bodies = bodies_of(ANSWERED)
    result = expect(tmp_path, *bodies)
    assert result.exit_code == 0
    assert result.stdout == f"{len(bodies)} messages, as in {tmp_path}/expected.ndjson.\n"


def test_the_first_difference_is_shown_field_by_field(tmp_path: Path) -> None:
    """With its line; the others are counted."""
    bodies = bodies_of(ANSWERED)
    before = json.loads(bodies[1])
    before["data"]["destiny"] = "nobody"
    before["data"]["gone"] = [1, {"a": None}]
    before["data"]["callstatus"] = True
    del before["data"]["server"]
    changed = json.dumps(before, separators=(",", ":")).encode()
    result = expect(tmp_path, bodies[0], changed, b"not json", *bodies[3:])
    assert result.exit_code == 1
    data = json.loads(bodies[1])["data"]
    assert result.stdout.splitlines() == [
        f"{tmp_path}/expected.ndjson:2: message 2 differs",
        f'  data.destiny: expected "nobody", got "{data["destiny"]}"',
        f"  data.callstatus: expected true, got {data['callstatus']}",
        '  data.gone: expected [1,{"a":null}], got nothing',
        '  data.server: expected nothing, got "voip1"',
        f"2 of the messages differ from {tmp_path}/expected.ndjson.",
    ]


def test_a_missing_and_a_superfluous_message_are_differences(tmp_path: Path) -> None:
    """At the end of either side; the message is shown."""
    bodies = bodies_of(ANSWERED)
    result = expect(tmp_path, *bodies, b'{"one":"more"}', b"{}")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{tmp_path}/expected.ndjson:{len(bodies) + 1}: expected, but not published:",
        '{"one":"more"}',
        f"2 of the messages differ from {tmp_path}/expected.ndjson.",
    ]
    result = expect(tmp_path, *bodies[:-1])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == (
        f"{tmp_path}/expected.ndjson: ends after {len(bodies) - 1} messages; published as well:"
    )
    assert result.stdout.splitlines()[1].encode() == bodies[-1]


def test_the_same_values_in_another_spelling_are_a_difference(tmp_path: Path) -> None:
    """The output is compared byte for byte."""
    bodies = bodies_of(ANSWERED)
    result = expect(tmp_path, json.dumps(json.loads(bodies[0])).encode(), *bodies[1:])
    assert result.exit_code == 1
    assert "the same values, written differently" in result.stdout


def test_a_difference_that_is_no_json_or_very_large_stays_readable(tmp_path: Path) -> None:
    """Text is shown as it is; of many fields the first twenty."""
    bodies = bodies_of(ANSWERED)
    result = expect(tmp_path, b"\xff[" * 3, *bodies[1:])
    assert "  expected \\xff[\\xff[\\xff[" in result.stdout
    many = json.dumps({"operation": {str(number): 1 for number in range(100)}}).encode()
    result = expect(tmp_path, many, *bodies[1:])
    assert " more fields" in result.stdout
    assert len(result.stdout.splitlines()) == 23


def test_an_expectation_may_be_packed_and_its_damage_counts(tmp_path: Path) -> None:
    """It is read like a log."""
    bodies = bodies_of(ANSWERED)
    path = tmp_path / "expected.gz"
    packed = gzip.compress(b"".join(body + b"\n" for body in bodies))
    path.write_bytes(packed)
    assert run(ANSWERED, "--directory", str(DIRECTORY), "--expect", str(path)).exit_code == 0
    path.write_bytes(packed[:-4])
    result = run(ANSWERED, "--directory", str(DIRECTORY), "--expect", str(path))
    assert result.exit_code == 1
    assert "damaged or cut off" in result.stderr


def test_a_table_shows_the_calls() -> None:
    """Who called whom, how it went on, how long it took and where the recording is."""
    result = run(TRANSFER, "--directory", str(DIRECTORY), "--format", "table")
    assert result.exit_code == 0
    last = next(json.loads(body)["data"] for body in bodies_of(TRANSFER) if b'"closed"' in body)
    row = next(line for line in result.stdout.splitlines() if line.startswith("│ 1 "))
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[2] == f"{last['origin']} ({last['origin_type']})"
    made = last["transfer"][0]
    assert cells[3] == (
        f"{last['destiny']} ({last['destiny_type']}); {made['kind']} transfer by {made['by']} to {made['to']}"
    )
    assert cells[4:8] == ["closed", str(last["ringduration"]), str(last["callduration"]), last["dtmf"]]
    assert cells[8] == last["urlfilename"].rpartition("/")[2]


def test_a_table_shows_groups_pushes_and_endpoints() -> None:
    """Each in a table of its own; none is printed empty."""
    group = run(capture("ring_group_second_answers"), "--directory", str(DIRECTORY), "--format", "table").stdout
    assert "(apto) of 11" in group
    assert "Pushes" not in group
    push = run(capture("push_registers_then_answers"), "--directory", str(DIRECTORY), "--format", "table").stdout
    assert "Pushes" in push
    assert "Endpoints" in push


def test_a_table_of_nothing_says_so(tmp_path: Path) -> None:
    """Rather than printing nothing at all."""
    log = tmp_path / "log"
    log.touch()
    assert run(str(log), "--format", "table").stdout == "No call rang anything, and no endpoint changed.\n"


def test_a_call_is_explained_event_by_event() -> None:
    """In words, with times from the call's beginning; nothing else is printed. Standard input will do."""
    (data,) = [json.loads(body)["data"] for body in bodies_of(ANSWERED) if b'"oncall"' in body][:1]
    guid = data["guid"]
    result = run(ANSWERED, "--directory", str(DIRECTORY), "--explain", guid.upper())
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"Call {data['callnumber']}: {data['origin']} dialed ")
    assert lines[1].startswith("It began at 2026-11-22 ")
    assert lines[2] == f"guid {guid}"
    assert lines[4].startswith(f"    +0.000  {data['channel']} was created ")
    assert lines[5] == (
        f"            - The call begins: origin {data['origin']}, dialed {data['destiny']}, vhost vila-madalena."
    )
    assert any(line.startswith("            - From ringing to answered: ") for line in lines)
    packed = Path(ANSWERED).read_bytes()
    done = run_process("-", "--directory", str(DIRECTORY), "--explain", guid, input=packed)
    assert done.stdout.decode() == result.stdout


def test_a_call_that_is_not_there_is_said_with_those_that_are() -> None:
    """The last ones first, not too many."""
    result = run(capture("concurrent_20_calls"), capture("busy"), "--explain", "no-such-call")
    assert (result.exit_code, result.stdout) == (1, "")
    lines = result.stderr.splitlines()
    assert lines[0] == "No call no-such-call in these logs."
    assert len(lines) == 1 + 20 + 1
    assert lines[-1].startswith("  and ")
    known = lines[1].split()[0]
    assert run(capture("busy"), "--explain", known).exit_code == 0


def test_a_long_replay_shows_its_progress_to_a_terminal(tmp_path: Path) -> None:
    """On standard error only, and only where somebody watches."""
    lines = b"".join(encode_record(record) for record in read_records([TRANSFER], refuse))
    names = [str(tmp_path / "one"), str(tmp_path / "two")]
    for name in names:
        Path(name).write_bytes(lines * (PROGRESS_BYTES_MIN // len(lines) // 2 + 1))
    quiet = run_process(*names)
    assert (quiet.returncode, quiet.stderr) == (0, b"")
    watching, terminal = pty.openpty()
    command = [sys.executable, "-m", "arimonitor_runner.cli", "replay", *names]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with (tmp_path / "out").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=terminal, cwd=ROOT, env=environment)
    os.close(terminal)
    shown = b""
    while chunk := _read_terminal(watching):
        shown += chunk
    os.close(watching)
    process.wait()
    assert (tmp_path / "out").read_bytes() == quiet.stdout
    assert process.returncode == 0
    assert names[1].encode() in shown


def _read_terminal(terminal: int) -> bytes:
    """What is left to read; a terminal whose other side is closed gives an error at its end."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
