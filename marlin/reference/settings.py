"""`docs/reference/settings.md`: every setting with its variable, kind, default and meaning."""

from __future__ import annotations

import json
from typing import cast

from marlin.reference.declared import Declared, Group, groups

__all__ = ["page"]

_INTRODUCTION = """\
# Settings

<!-- Written by `make docs` from marlin/settings.py: change that, not this page. -->

Each setting is an environment variable, or a line `VARIABLE=value` of a file `.env` in the working
directory; the environment wins. An invalid one is refused by name before anything starts.

Names end in their units: `_s` seconds, `_ms` milliseconds, `_days` days, `_bytes` bytes. A list is
written with commas, `a,b`, or as JSON.
"""


def page() -> str:
    """The page for the settings as they are declared now."""
    found = groups()
    named = [group for group in found if group.name]
    contents = ", ".join(f"[{group.name}](#{group.name})" for group in named)
    return "\n".join(
        [_INTRODUCTION, f"Groups: {contents}.\n", *(_section(group) for group in found)]
    )


def _section(group: Group) -> str:
    rows = "\n".join(_row(one) for one in group.settings)
    return (
        f"## {group.name or 'general'}\n\n{group.about}\n\n"
        f"| variable | takes | default | meaning |\n|---|---|---|---|\n{rows}\n"
    )


def _row(one: Declared) -> str:
    about = one.about.replace("|", "\\|")
    return f"| `{one.variable}` | {one.kind} | {_default(one.default)} | {about} |"


def _default(value: object) -> str:
    if value is None or value == "" or value == []:
        return "unset"
    if isinstance(value, list):
        return f"`{','.join(map(str, cast('list[object]', value)))}`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
