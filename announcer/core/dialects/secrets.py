"""Secrets, and the passwords of sessions in them. Nothing that stands in one is ever shown, nor judged before its use.

| the Secret of a session | its password | said |
|---|---|---|
| says it | that | |
| is not there, or lacks the key | not known; of an optional one, none | what is missing |
| has another type, or what can't be a password | not known | what is wrong |
| can't be read | what it said before, if that is known | why |

A mistake beside it doesn't take the password: a field that a Secret doesn't have, or a value that is no text, is told
and left out.
"""

from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable, Mapping

from announcer.core.dialects.fields import Fields
from announcer.core.dialects.sessions import wrong_password
from announcer.core.model import ObjectRef, Reason, Secret, SecretKey


def read_secret(top: Fields, ref: ObjectRef, _created: str) -> Secret:
    """`stringData` over `data`, as the API server has it."""
    given = _texts(top, "stringData").items()
    plain = {key: b64encode(text.encode("utf-8", "surrogatepass")).decode("ascii") for key, text in given}
    secret = Secret(ref=ref, type=top.text("type", "Opaque"), data=_texts(top, "data") | plain)
    for name in ("apiVersion", "kind", "metadata", "immutable"):
        top.get(name)
    top.close(unknown=Reason.NO_EFFECT)
    return secret


def find_password(key: SecretKey, secret: Secret | None) -> tuple[str | None, str]:
    """The password, None where it isn't known and empty where there is to be none; and what is wrong, if anything."""
    text = secret.data.get(key.key) if secret else None
    if secret is None or (text is None and not secret.error):
        if key.is_optional:
            return "", ""
        return None, f"{key.ref} is not there" if secret is None else f"{key.ref} has no text for the key {key.key}"
    if text is None:
        return None, f"{key.ref} can't be read: {secret.error}"
    if key.type and secret.type != key.type:
        return None, f"{key.ref} has the type {secret.type}, and must have {key.type}"
    try:
        found = b64decode("".join(text.split()), validate=True).decode()
    except (Error, UnicodeDecodeError):
        return None, f"{key.ref}: what it has for the key {key.key} is not UTF-8 in base64"
    if problem := wrong_password(found):
        return None, f"{key.ref}: what it has for the key {key.key} {problem}"
    return found, f"{key.ref} can't be read any more: {secret.error}" if secret.error else ""


def _texts(top: Fields, name: str) -> dict[str, str]:
    raw = top.get(name)
    if raw is not None and not isinstance(raw, Mapping):
        top.refuse(name, None, "must be a mapping of keys to strings", "", Reason.NO_EFFECT)
        return {}
    found = {str(key): value for key, value in (raw or {}).items() if value is not None}
    for key in sorted(key for key, value in found.items() if not isinstance(value, str)):
        top.refuse(f"{name}.{key}", None, "must be a string", "put it between quotes", Reason.NO_EFFECT)
    return {key: value for key, value in found.items() if isinstance(value, str)}


KINDS: dict[tuple[str, str], Callable[[Fields, ObjectRef, str], Secret]] = {("v1", "Secret"): read_secret}
