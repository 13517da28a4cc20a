"""Settings by dotted keys: list them, change single ones, and build configurations from plain values.

Keys are those that ``everest recipe show`` prints, such as ``optim.base_lr``; a misspelt one is an error that names
the nearest.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from everest.config import Config
from everest.errors import ConfigError, nearest

AnyConfig = TypeVar("AnyConfig", bound=Config)


def flatten(config: Config) -> dict[str, Any]:
    """List every setting by its dotted key.

    Args:
        config: Any configuration.

    Returns:
        ``{"optim.base_lr": 0.001, ...}`` in the order of definition, values as JSON has them.
    """
    flat: dict[str, Any] = {}

    def walk(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                walk(f"{prefix}{key}.", value)
            else:
                flat[prefix + key] = value

    walk("", config.model_dump(mode="json"))
    return flat


def override(config: AnyConfig, settings: Iterable[str]) -> AnyConfig:
    """Change single settings.

    Args:
        config: The configuration to start from; it is not changed.
        settings: ``KEY=VALUE`` strings. Keys are those of :func:`flatten`; values are JSON or bare words.

    Returns:
        A new configuration, checked as a whole.

    Raises:
        ConfigError: A setting without ``=``, an unknown key (the nearest one is named), or values that do not fit;
            all problems of the values are listed at once.
    """
    values = config.model_dump(mode="json")
    known = flatten(config).keys() - {"task"}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, such as optim.epochs=10")
        if key == "task":
            raise ConfigError("task is not a setting: everest pretrain and everest finetune decide it")
        if key not in known:
            raise ConfigError(f"unknown key {key!r}: {nearest(key, known)}")
        *parents, leaf = key.split(".")
        node = values
        for parent in parents:
            node = node[parent]
        node[leaf] = _parse(text)
    return parse(type(config), values)


def parse(kind: type[AnyConfig], values: Mapping[str, Any]) -> AnyConfig:
    """Build a configuration from plain values, such as those of a JSON file.

    Args:
        kind: The class to build.
        values: Nested mappings, as :meth:`pydantic.BaseModel.model_dump` gives them.

    Raises:
        ConfigError: One line that lists every problem.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            + (f" (given: {e['input']!r})" if not isinstance(e["input"], dict | Config) else "")
            for e in error.errors()
        ]
        raise ConfigError("; ".join(p.removeprefix(": ") for p in problems)) from None


def _parse(text: str) -> Any:
    """Read a value as JSON where it is JSON, and as a bare word where not; 'none' means null."""
    text = text.strip()
    words = {"none": None, "null": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return json.loads(text)
    except ValueError:
        return text
