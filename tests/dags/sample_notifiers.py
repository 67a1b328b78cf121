"""Notifiers that a spec under test names."""

from pathlib import Path

from airflow.sdk import BaseNotifier


class FileNotifier(BaseNotifier):
    """Append the text to a file."""

    template_fields = ("text",)

    def __init__(self, *, path: str, text: str = "{{ modelway_message }}") -> None:
        super().__init__()
        self.path = path
        self.text = text

    def notify(self, context) -> None:
        with Path(self.path).open("a") as file:
            file.write(f"{self.text}\n")


class RaisingNotifier(BaseNotifier):
    def notify(self, context) -> None:
        raise RuntimeError("the mail server is unavailable")


def announce(*, path: str):
    """Return a callable, which is no notifier."""
    return lambda context: Path(path).write_text(context["modelway_message"])
