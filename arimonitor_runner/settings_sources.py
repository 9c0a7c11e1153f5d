"""Where settings come from, and what to tell an operator whose settings are wrong.

typed-settings reads, merges and converts; here each value is looked at on its own as well, so that every fault is named
with its source and its field, all of them at once, and no secret is shown.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import typed_settings as ts
from attrs import frozen
from typed_settings.cls_utils import deep_options
from typed_settings.converters import get_default_cattrs_converter, register_strlist_hook
from typed_settings.exceptions import ConfigFileLoadError, TsError
from typed_settings.loaders import DictLoader, EnvLoader, FileLoader, Loader, TomlFormat
from typed_settings.types import OptionInfo, SecretStr

from arimonitor_runner.settings import ENVIRONMENT_PREFIX, Settings

DEFAULT_FILE = Path("/etc/arimonitor/arimonitor.toml")
SECTION = "arimonitor"
MASK = "********"

OPTIONS: tuple[OptionInfo, ...] = tuple(deep_options(Settings))
"""Every setting: its dotted path, type and default."""


# It logs what it also raises, on standard error where nothing is set up yet.
logging.getLogger("typed_settings").setLevel(logging.CRITICAL)


class SettingsError(Exception):
    """The settings cannot be used. `faults` names each source and field; no value of a secret is in it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


@frozen(kw_only=True)
class LoadedSettings:
    """The settings, and where each came from."""

    settings: Settings
    sources: Mapping[str, str]
    """By dotted path: a file, an environment variable or an option. What is not in it is a default."""


@frozen
class _Given:
    """A value before its conversion."""

    option: OptionInfo
    value: Any
    source: str


def option_name(path: str) -> str:
    """Give the command-line option of a setting."""
    return "--" + path.replace(".", "-").replace("_", "-")


def variable_name(path: str) -> str:
    """Give the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + path.replace(".", "_").upper()


def load_settings(file: Path | None, arguments: Mapping[str, str]) -> LoadedSettings:
    """Read all sources. Raises SettingsError.

    Args:
        file: the TOML file, which must exist then; None: the default one, if it exists.
        arguments: what the command line gives, by dotted path.
    """
    converter = get_default_cattrs_converter()
    register_strlist_hook(converter, sep=",")
    named = [f"!{file}"] if file is not None else [str(DEFAULT_FILE)]
    loaders: list[Loader] = [
        FileLoader({"*": TomlFormat(SECTION)}, named),
        EnvLoader(ENVIRONMENT_PREFIX),
        DictLoader(_nested(arguments)),
    ]
    try:
        given = {found.option.path: found for found in _find_given(loaders)}
        faults = [fault for found in given.values() if (fault := _find_fault(found, converter)) is not None]
        if faults:
            raise SettingsError(faults)
        settings = ts.load_settings(Settings, loaders, converter=converter)
    except OSError as error:
        raise SettingsError([f"{error.filename}: {error.strerror}"]) from error
    except (ConfigFileLoadError, UnicodeDecodeError) as error:
        raise SettingsError([f"{file or DEFAULT_FILE}: {error}"]) from error
    except TsError as error:
        raise SettingsError([str(error)]) from error
    sources = {path: found.source for path, found in given.items()}
    _check_pair(settings, sources)
    return LoadedSettings(settings=settings, sources=sources)


def _check_pair(settings: Settings, sources: Mapping[str, str]) -> None:
    pair = settings.pair
    if pair.member and pair.member not in pair.members:
        source, members = sources["pair.member"], ", ".join(pair.members)
        raise SettingsError([f"{source}: pair.member: {pair.member} is not one of pair.members: {members}"])


def describe_settings(loaded: LoadedSettings) -> Iterable[str]:
    """Say what the settings are, line by line, as TOML that can be read back but for the secrets."""
    yield f"[{SECTION}]"
    for option in OPTIONS:
        value: Any = loaded.settings
        for name in option.path.split("."):
            value = getattr(value, name)
        shown = MASK if isinstance(value, SecretStr) and value else value
        text = json.dumps(shown, default=str, ensure_ascii=False)
        source = loaded.sources.get(option.path)
        yield f"{option.path} = {text}" + (f"  # {source}" if source else "")


def _find_given(loaders: Iterable[Loader]) -> Iterable[_Given]:
    """Find the values of all loaders, in order: of two for one setting the later counts."""
    for loader in loaders:
        loaded = loader(Settings, OPTIONS)
        for layer in [loaded] if isinstance(loaded, ts.types.LoadedSettings) else loaded:
            for option in OPTIONS:
                found, value = _look_up(layer.settings, option.path)
                if found:
                    yield _Given(option, value, _describe_source(loader, layer.meta.name, option.path))


def _describe_source(loader: Loader, name: str, path: str) -> str:
    if isinstance(loader, EnvLoader):
        return variable_name(path)
    if isinstance(loader, FileLoader):
        return name.partition("[")[2].rstrip("]")
    return option_name(path)


def _find_fault(given: _Given, converter: Any) -> str | None:
    """Convert and validate one value on its own; None where it is all right."""
    option = given.option
    attribute = getattr(attrs.fields(option.parent_cls), option.name)
    try:
        value = converter.structure(given.value, option.cls)
        if attribute.validator is not None:
            attribute.validator(None, attribute, value)
    except Exception as error:
        return f"{given.source}: {option.path}: {error.args[0] if error.args else error}"
    return None


def _look_up(settings: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    value: Any = settings
    for name in path.split("."):
        if not isinstance(value, Mapping) or name not in value:
            return False, None
        value = value[name]
    return True, value


def _nested(arguments: Mapping[str, str]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, value in arguments.items():
        *sections, name = path.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return nested


def check_together(settings: Settings) -> None:
    """Look at what no setting can be judged by alone. Raises SettingsError."""
    if settings.ari.mode == "outbound" and not settings.ari.listen_password:
        raise SettingsError(["ari.listen_password: must be set where ari.mode is outbound"])


def secrets_of(settings: Settings) -> list[str]:
    """Give the secrets in the settings, so that the log can hide them wherever they turn up."""
    secrets = (settings.ari.password, settings.ari.listen_password, settings.ami.password)
    return [secret for secret in secrets if secret]


def environment_file() -> Path | None:
    """Give the file that ARIMONITOR_CONFIG names, if it names one."""
    name = os.environ.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    return Path(name) if name else None
