"""Addresses of files and databases whose secrets stay in the environment.

A recipe is recorded, printed and pushed, so that an address in it names the variable, ``${DB_PASSWORD}``, and never holds
the value. It is filled in where a connection is opened; nothing keeps the result, and messages say the name again.
"""

from __future__ import annotations

import os
import re
from urllib.parse import parse_qsl, urlsplit

from hf_trainpipe.errors import DataError, RecipeError
from hf_trainpipe.utils.secrets import scan_text, scrub

_NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ADDRESS = re.compile(r"[a-z][a-z0-9+.]*(::[a-z][a-z0-9+.]*)*://", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"sig|signature|.*token|.*key|.*secret.*|.*passw(or)?d|pwd|.*credentials?|auth|x-(amz|goog)-.*", re.IGNORECASE
)


def is_remote(name: str) -> bool:
    """Whether a name is an address and no path.

    >>> is_remote("s3://bucket/train.csv"), is_remote("data/train.csv"), is_remote("package:corpus/data")
    (True, False, False)
    """
    return _ADDRESS.match(name) is not None


def shown_address(address: str) -> str:
    """An address for messages and pages: without its query, which may be a signature.

    >>> shown_address("https://host/train.csv?sig=${SIGNATURE}")
    'https://host/train.csv'
    """
    bare = address.partition("?")[0] if address.lower().startswith(("http://", "https://")) else address
    return scrub(bare, environment={})


def refuse_secrets(where: str, address: str) -> None:
    """Refuse an address that holds a password, a token or a signature.

    Raises:
        RecipeError: ``where`` is the field that holds it; the secret is not repeated.
    """
    bare = _NAMED.sub("", address)
    parts = urlsplit(bare)
    user, _, _host = parts.netloc.rpartition("@")
    is_web = parts.scheme in ("http", "https")
    found = None
    if user.partition(":")[2] or (is_web and user.strip(":")):
        found = "a user's password" if ":" in user else "a user"
    elif held := [name for name, value in parse_qsl(parts.query) if _SECRET_PARAMETER.fullmatch(name) and value]:
        found = f"a value of {held[0]!r}"
    elif listed := [one for one in scan_text(bare, file=where, environment={}) if one.kind != "a home path"]:
        found = listed[0].kind
    if found is not None:
        raise RecipeError(
            f"{where}: the address of {parts.hostname or parts.scheme} holds {found}, and what is written in addresses is recorded and shared.",
            fix="Put it into an environment variable and name that: ${DB_PASSWORD} in place of the value; in a shell in single quotes.",
        )


def filled(text: str, *, where: str) -> str:
    """An address with the values of the variables that it names.

    Raises:
        DataError: the environment lacks one.
    """

    def value(match: re.Match[str]) -> str:
        held = os.environ.get(match[1])
        if held is None:
            raise DataError(
                f"{where}: the environment has no variable {match[1]}, which {shown_address(text)} names.",
                fix=f"Set it where the command runs: export {match[1]}=...",
            )
        return held

    return _NAMED.sub(value, text)


def without_values(message: str, *addresses: str) -> str:
    """A library's message with the names of variables in place of their values, and without other secrets."""
    for name in {name for address in addresses for name in _NAMED.findall(address)}:
        if value := os.environ.get(name):
            message = message.replace(value, f"${{{name}}}")
    return scrub(message)
