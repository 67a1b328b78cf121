"""Plain values to YAML that ``read_document`` reads back as the same values."""

from typing import Any

import yaml

from modelway.spec.document.read import is_plain_text


class _Dumper(yaml.SafeDumper):
    """Indents the lists of a mapping, and repeats values instead of using aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML decides by YAML 1.1 whether quotes are needed; the loader reads YAML 1.2.
    style = None if is_plain_text(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def write_document(data: Any, *, encoding: str = "utf-8") -> str:
    """Return the YAML of plain values, keys in their order, using only characters of the encoding."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120)
    return text
