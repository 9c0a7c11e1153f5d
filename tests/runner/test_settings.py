"""Settings: where they come from, what overrules what, and how faults are told."""

import json
import tomllib

import attrs
import pytest
import typed_settings as ts
from attrs import evolve
from click.testing import CliRunner

from arimonitor_runner.daemon import main
from arimonitor_runner.settings import LEAN_EVENTS, Settings
from arimonitor_runner.settings_sources import (
    MASK,
    OPTIONS,
    SettingsError,
    describe_settings,
    load_settings,
    option_name,
    secrets_of,
    variable_name,
)


@pytest.fixture
def file(tmp_path):
    """Write a TOML file and give its path."""

    def write(text):
        path = tmp_path / "arimonitor.toml"
        path.write_text(text)
        return path

    return write


def faults(path, arguments=None):
    """The faults that loading tells."""
    with pytest.raises(SettingsError) as error:
        load_settings(path, arguments or {})
    return list(error.value.faults)


def test_each_source_overrules_the_one_before(file, monkeypatch):
    """Default, file, environment, command line; and each value's source is known."""
    path = file('[arimonitor]\nserver = "file"\n[arimonitor.ari]\nuser = "file"\napplication = "file"\n')
    monkeypatch.setenv("ARIMONITOR_ARI_USER", "environment")
    monkeypatch.setenv("ARIMONITOR_ARI_APPLICATION", "environment")
    loaded = load_settings(path, {"ari.application": "option"})
    ari = loaded.settings.ari
    assert (loaded.settings.server, ari.user, ari.application) == ("file", "environment", "option")
    assert ari.url == "http://127.0.0.1:8088"
    assert loaded.sources == {
        "server": str(path),
        "ari.user": "ARIMONITOR_ARI_USER",
        "ari.application": "--ari-application",
    }


def test_texts_become_what_a_setting_needs(monkeypatch, file):
    """Lists by comma, truth values, numbers, paths beside the file."""
    monkeypatch.setenv("ARIMONITOR_POLICIES_PUSH_TYPES", "unidade,apto")
    path = file('[arimonitor.outbox]\npath = "spool/outbox.db"\n')
    loaded = load_settings(path, {"broker.declare": "no", "broker.window": "7"}).settings
    assert loaded.policies.push_types == ("unidade", "apto")
    assert (loaded.broker.declare, loaded.broker.window) == (False, 7)
    assert loaded.outbox.path == path.parent / "spool" / "outbox.db"


def test_every_fault_is_named_with_source_and_field(file, monkeypatch):
    """All of them at once: what cannot be converted and what is out of range."""
    path = file('[arimonitor.ari]\nping_timeout_s = "soon"\nevents = []\n[arimonitor.logs]\nlevel = "loud"\n')
    monkeypatch.setenv("ARIMONITOR_BROKER_WINDOW", "0")
    told = faults(path, {"drain_timeout_s": "-1"})
    assert sorted(tuple(fault.split(": ")[:2]) for fault in told) == [
        ("--drain-timeout-s", "drain_timeout_s"),
        (str(path), "ari.events"),
        (str(path), "ari.ping_timeout_s"),
        (str(path), "logs.level"),
        ("ARIMONITOR_BROKER_WINDOW", "broker.window"),
    ]


def test_a_member_must_be_one_of_the_members(file):
    """What is wrong with the two together is told at the member."""
    path = file('[arimonitor.pair]\nmember = "c"\nmembers = ["a", "b"]\n')
    assert faults(path) == [f"{path}: pair.member: c is not one of pair.members: a, b"]
    assert load_settings(path, {"pair.members": "b,c"}).settings.pair.member == "c"


def test_an_overruled_value_is_no_fault(file):
    """What the command line replaces does not matter any more."""
    path = file("[arimonitor.broker]\nwindow = 0\n")
    assert load_settings(path, {"broker.window": "5"}).settings.broker.window == 5


def test_an_unknown_key_is_a_fault(file):
    """A misspelt setting would otherwise stay at its default, silently."""
    (fault,) = faults(file("[arimonitor.ari]\npasword = 'x'\n"))
    assert "arimonitor.toml: ari.pasword" in fault


@pytest.mark.parametrize("url", ["ftp://pbx", "http://", "http://arimonitor:geheim@pbx:8088", "pbx?api_key=geheim"])
def test_an_ari_url_is_plain_and_its_fault_does_not_repeat_it(file, url):
    """Somebody may have put the password into it."""
    (fault,) = faults(file(f'[arimonitor.ari]\nurl = "{url}"\n'))
    assert "ari.url: url must" in fault
    assert "geheim" not in fault


def test_unreadable_files_are_named(tmp_path, file):
    """Missing, a folder, no TOML, no text."""
    (fault,) = faults(tmp_path / "missing.toml")
    assert fault == f"{tmp_path / 'missing.toml'}: No such file or directory"
    (fault,) = faults(tmp_path)
    assert fault == f"{tmp_path}: Is a directory"
    path = file("server = [")
    (fault,) = faults(path)
    assert fault.startswith(f"{path}: Invalid value")
    path.write_bytes(b"\xff\xfe")
    (fault,) = faults(path)
    assert fault.startswith(f"{path}: 'utf-8' codec can't decode")


def test_the_description_can_be_read_back_and_hides_secrets(file, tmp_path):
    """It is TOML with every setting in it; only the password is gone."""
    path = file('[arimonitor]\nserver = "voip1"\n[arimonitor.ari]\npassword = "geheim"\n')
    loaded = load_settings(path, {"broker.declare": "false"})
    text = "\n".join(describe_settings(loaded))
    assert "geheim" not in text
    assert f'server = "voip1"  # {path}' in text
    assert "broker.declare = false  # --broker-declare" in text
    copy = tmp_path / "copy.toml"
    copy.write_text(text)
    again = load_settings(copy, {}).settings
    masked = evolve(loaded.settings, ari=evolve(loaded.settings.ari, password=ts.SecretStr(MASK)))
    assert again == masked
    assert len(tomllib.loads(text)["arimonitor"]) == len(attrs.fields(Settings))


def test_secrets_are_known_to_the_log():
    """So that it can hide them wherever they turn up."""
    settings = Settings()
    assert secrets_of(settings) == []
    assert secrets_of(evolve(settings, ari=evolve(settings.ari, password=ts.SecretStr("geheim")))) == ["geheim"]
    assert "geheim" not in repr(evolve(settings, ari=evolve(settings.ari, password=ts.SecretStr("geheim"))))


def test_every_setting_says_what_it_is_for():
    """An option without a help text is no option for an operator."""
    assert [option.path for option in OPTIONS if not option.metadata.get("help")] == []
    assert (option_name("ari.ping_timeout_s"), variable_name("ari.ping_timeout_s")) == (
        "--ari-ping-timeout-s",
        "ARIMONITOR_ARI_PING_TIMEOUT_S",
    )
    assert len(LEAN_EVENTS) == 17


def directory(tmp_path, clients="[112]\nnome = A\nvhost = a\n"):
    folder = tmp_path / "directory"
    folder.mkdir()
    (folder / "__CLIENTES__.DEF").write_text(clients)
    (folder / "endpoints_pjsip.def").write_text("[1121]\ntype = endpoint\nset_var = TIPO=apto\n")
    return folder


def test_check_config_says_what_would_run(tmp_path, monkeypatch):
    """The effective settings, the directory with its problems, and exit status 0."""
    monkeypatch.setenv("ARIMONITOR_ARI_PASSWORD", "geheim")
    folder = directory(tmp_path, "[112]\nnome = A\nvhost = a\n[11]\nnome = B\n")
    done = CliRunner().invoke(main, ["--check-config", "--directory-folder", str(folder)])
    assert done.exit_code == 0
    assert f"directory.folder = {json.dumps(str(folder))}  # --directory-folder" in done.stdout
    assert "# directory: 1 clients, 1 endpoints, 0 ring groups, 0 MQ servers, 0 audio servers" in done.stdout
    assert "# messages go to the log only" in done.stdout
    assert f"{folder}/__CLIENTES__.DEF:4: warning: [11]" in done.stderr
    assert "geheim" not in done.output


def test_check_config_ends_with_2_where_the_daemon_could_not_start(tmp_path):
    """Wrong settings, or a directory that is not there."""
    done = CliRunner().invoke(main, ["--check-config", "--ari-url", "pbx"])
    assert (done.exit_code, done.stderr) == (2, "error: --ari-url: ari.url: url must look like http://HOST:8088\n")
    done = CliRunner().invoke(main, ["--check-config", "--directory-folder", str(tmp_path / "missing")])
    assert done.exit_code == 2
    assert done.stderr.endswith(f"error: directory.folder: {tmp_path / 'missing'} cannot be used\n")


def test_the_configuration_file_may_be_named_in_the_environment(file, monkeypatch):
    """ARIMONITOR_CONFIG, for containers; an option overrules it."""
    monkeypatch.setenv("ARIMONITOR_CONFIG", str(file('[arimonitor]\nserver = "named"\n')))
    done = CliRunner().invoke(main, ["--check-config"])
    assert 'server = "named"' in done.stdout


def test_an_outbound_websocket_needs_a_password(monkeypatch):
    """No setting is wrong by itself: both are looked at together, before anything runs."""
    monkeypatch.delenv("ARIMONITOR_ARI_LISTEN_PASSWORD", raising=False)
    done = CliRunner().invoke(main, ["--check-config", "--ari-mode", "outbound"])
    assert done.exit_code == 2
    assert done.stderr == "error: ari.listen_password: must be set where ari.mode is outbound\n"
    done = CliRunner().invoke(main, ["--check-config", "--ari-mode", "outbound", "--ari-listen-password", "segredo"])
    assert "listen_password" not in done.stderr
    assert "segredo" not in done.stdout
