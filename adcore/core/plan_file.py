"""Reads the YAML of a plan, and refuses what YAML would read as something else than what stands there."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

TEXT, NULL = "tag:yaml.org,2002:str", "tag:yaml.org,2002:null"
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# Under these keys stand names. YAML 1.1 reads `no` as false and `01` as 1, and both are categories of public sets.
NAMES = {"name", "kind", "categories", "textures", "datasets", "methods", "enhancers", "protocols", "metrics", "good"}


def read(path: Path) -> Any:
    """The content of a plan's file. Raises ValueError, naming the file, and the line where there is one."""
    try:
        # libyaml's loader has no hooks, and a plan is short
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file, such as YAML is") from None
    except _Misread as error:
        raise ValueError(f"{path}, {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None


class _Misread(Exception):
    """The file is YAML, but not what its author means."""


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        _require_once(node)
        _require_points(node)
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in NAMES:
                _take_literally(value)
        return super().construct_mapping(node, deep)


def _require_once(node: yaml.MappingNode) -> None:
    lines: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode) and key.value in lines:
            raise _Misread(f"line {line}: key '{key.value}' stands in line {lines[key.value]} already; remove one")
        lines[str(key.value)] = line


def _require_points(node: yaml.MappingNode) -> None:
    """`{coreset: 0,1}` are two entries, `coreset: 0` and `1:`."""
    for (_, before), (key, value) in zip(node.value, node.value[1:], strict=False):
        if node.flow_style and key.tag in NUMBERS and value.tag == NULL:
            number = f"{before.value},{key.value}"
            line = key.start_mark.line + 1
            raise _Misread(f"line {line}: YAML reads '{number}' as two entries; write {number.replace(',', '.')}")


def _take_literally(node: yaml.Node) -> None:
    if isinstance(node, yaml.ScalarNode) and node.tag != NULL:
        node.tag = TEXT
    elif isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _take_literally(entry)
