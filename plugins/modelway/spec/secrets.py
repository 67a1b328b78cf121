"""Texts in a spec that look like a secret."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from modelway.fields.refusal import KeyPath, Refusal
from modelway.spec.registry import secret_forms

#: parts of a variable's name that mark its value as a secret
_NAMES = re.compile(
    r"(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|API_?KEY|ACCESS_?KEY|SECRET_?KEY|PRIVATE_?KEY)$",
    re.IGNORECASE,
)
#: prefixes of the keys of several services, private keys, and the login of a URL
_VALUES = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}"
    r"|\bxox[abprs]-[\w-]{10,}|\bhf_[A-Za-z0-9]{30,}|\bsk-[\w-]{20,}|\bAIza[\w-]{35}"
    r"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\."
    r"|://[^\s/:@]*:[^\s/@]+@"
)


def plain_secrets(data: Mapping[str, Any]) -> Iterator[tuple[KeyPath, Refusal]]:
    """Find the texts in a spec's values, valid or not, that look like a secret; the messages do not repeat them."""
    forms = secret_forms()
    for path, text in _texts(data, ()):
        of_environment = len(path) == 3 and path[0] in forms and path[1] == "env"
        by_name = of_environment and text.strip() and _NAMES.search(str(path[-1]))
        if by_name or _VALUES.search(text):
            do = f"Write {forms[str(path[0])]}" if of_environment else _elsewhere(forms)
            yield path, Refusal("the text looks like a secret, which everybody who sees the spec can read", do=do)


def _elsewhere(forms: Mapping[str, str]) -> str:
    keys = " or ".join(f"{name}.env" for name in forms)
    return f"Keep it in a connection or variable of Airflow, and give it to the job by {keys}"


def _texts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if isinstance(value, str):
        yield path, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _texts(item, (*path, key))
