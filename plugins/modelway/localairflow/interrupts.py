"""Ctrl-C and SIGTERM end a command once; what cleans up after it is not disturbed by another."""

import signal

ENDING = (signal.SIGINT, signal.SIGTERM)


def interrupt_once() -> None:
    """Raise KeyboardInterrupt at the first SIGINT or SIGTERM and ignore all later ones."""

    def interrupt(number: int, frame: object) -> None:
        ignore_interrupts()
        raise KeyboardInterrupt

    for number in ENDING:
        # SIGINT as well: a shell that starts a command in the background makes it ignore Ctrl-C.
        signal.signal(number, interrupt)


def ignore_interrupts() -> None:
    """Ignore SIGINT and SIGTERM until this process ends."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
