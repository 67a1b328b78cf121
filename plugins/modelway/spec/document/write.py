"""Plain values to YAML that ``read_document`` reads back as the same values."""

from typing import Any

import yaml

from modelway.spec.document.read import is_plain_text


class _Dumper(yaml.SafeDumper):
    """Writes lists of a mapping indented, and repeats values in place of aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML asks YAML 1.1 whether quotes are needed; the loader asks YAML 1.2.
    style = None if is_plain_text(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def write_document(data: Any, *, encoding: str = "utf-8") -> str:
    """Return the YAML of plain values, keys in their order, in characters that an encoding has."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=120)
    return text
