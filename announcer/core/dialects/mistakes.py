"""What was probably meant by a document that YAML itself can't read: which object, which field, and a remedy.

Only text is looked at: a person who pasted `- name: app` right under `spec:` hears of `ports:` this way, and not of
"expected <block end>".
"""

import re

from announcer.core.dialects.fields import is_secret
from announcer.core.model import ObjectRef, Problem, Reason

_SECRET = re.compile(r"""\bkind["']?\s*:\s*["']?Secret\b""")
_UNSAID = "what is wrong is not said, as it may quote a password"
_KEY = re.compile(r"(\s*)(?:- )?([\w./-]+):(?:\s|$)")


def explain(text: str, line: int, message: str, source: str) -> Problem:
    """`line` counts from 0 within the document `text`; `message` is the parser's own; `source` is file and line."""
    lines = text.splitlines() or [""]
    at = min(line, len(lines) - 1)
    metadata = re.search(r"^metadata:\s*$(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    block = metadata.group(1) if metadata else ""
    ref = ObjectRef(
        kind=_first(r"^kind:\s*(\S+)", text) or "document",
        namespace=_first(r"^\s+namespace:\s*(\S+)", block),
        name=_first(r"^\s+name:\s*(\S+)", block),
        source=source,
    )
    field = _field(lines, at)
    is_hidden = bool(_SECRET.search(text)) or is_secret(field) or is_secret(lines[at])
    return Problem(
        ref=ref,
        field=field,
        value="" if is_hidden else lines[at].strip(),
        message=f"is not YAML: {_UNSAID if is_hidden else message}",
        remedy="" if is_hidden else _remedy(lines, at),
        reason=Reason.UNREADABLE_FILE,
    )


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found.group(1).strip("\"'") if found else ""


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _field(lines: list[str], at: int) -> str:
    """The path of keys that enclose the line, by indentation."""
    path: list[str] = []
    depth = _indent(lines[at])
    for line in reversed(lines[:at]):
        found = _KEY.match(line)
        if found and line.strip() and _indent(line) < depth and not line.lstrip().startswith("- "):
            path.append(found.group(2))
            depth = _indent(line)
    return ".".join(reversed(path))


def _remedy(lines: list[str], at: int) -> str:
    if "\t" in lines[at][: len(lines[at]) - len(lines[at].lstrip())]:
        return "indent with blanks, not with tabs"
    depth = _indent(lines[at])
    items = [i for i, line in enumerate(lines[:at]) if _indent(line) == depth and line.lstrip().startswith("- ")]
    if not items or lines[at].lstrip().startswith("- "):
        return ""
    first = lines[items[-1]].strip()
    if is_secret(first):
        return ""
    key = "`ports:`" if re.search(r"^\s*port:", "\n".join(lines[items[-1] : at]), re.MULTILINE) else "a key of its own"
    return f"`{first}` begins a list beside `{lines[at].strip()}`; put {key} above it and indent its items"
