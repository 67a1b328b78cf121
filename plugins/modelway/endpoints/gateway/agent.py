"""Changes a running HAProxy: all commands of one change, sent from beside it.

In the image of the gateway it is a program, ``python3 agent.py REQUEST``, so that one execution in the container is one
change; on this machine :func:`send` is called. It stands alone, with Python's standard library.
"""

import base64
import contextlib
import fcntl
import json
import os
import socket
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence

#: stands in a command for the version of the map that ``prepare map`` has begun
NEW_MAP = "@new"
_BEGUN = "New version created: "
_SECONDS = 5.0
#: of a page
_PAGE_SECONDS = 3.0
#: seconds between two looks at what is awaited
_PAUSE = 0.05


def send(path: str, commands: Sequence[Sequence[object]]) -> list[str]:
    """Send commands in turn over the runtime socket at ``path`` and return the answers.

    It stops after the first refused one, so that a change is never committed without all its parts; that is the last
    answer then.

    :param commands: each a text and the accepted answers, of which the answer must contain one unless it is empty;
        None: any answer is accepted
    :raises OSError: HAProxy does not answer
    """
    answers: list[str] = []
    new_map = ""
    for text, accepted in commands:
        answer = _ask(path, str(text).replace(NEW_MAP, f"@{new_map}"))
        answers.append(answer)
        if answer.startswith(_BEGUN):
            new_map = answer.removeprefix(_BEGUN).split()[0]
        if is_refused(answer, accepted):
            break
    return answers


def is_refused(answer: str, accepted: object) -> bool:
    """Return whether an answer is none of the accepted ones."""
    return isinstance(accepted, Sequence) and bool(answer) and not any(str(word) in answer for word in accepted)


def _ask(path: str, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_SECONDS)
        connection.connect(path)
        connection.sendall(f"{command}\n".encode())
        return _received(connection).decode().strip()


def replace_files(folder: str, files: Mapping[str, str], unless_changed: Mapping[str, str]) -> bool:
    """Replace files of a folder, each atomically and in the order of ``files``.

    :param unless_changed: SHA-256 of files as they must be now, "" for one that must not be there
    :return: False when one of them is not as it must be: then nothing was done
    """
    with _locked(folder):
        for name, digest in unless_changed.items():
            if _digest(os.path.join(folder, name)) != digest:
                return False
        for name, text in files.items():
            beside = os.path.join(folder, f".{name}.part")
            with open(beside, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.rename(beside, os.path.join(folder, name))
        return True


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _digest(path: str) -> str:
    import hashlib

    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return ""


def _page(url: str) -> tuple[int, str]:
    """Return status and text of what a URL answers; 0 and nothing where nothing answers in time."""
    place, _, path = url.removeprefix("http://").partition("/")
    host, _, port = place.partition(":")
    # Python's own client of HTTP takes longer to load than all else here. HTTP/1.0 ends an answer with the connection.
    request = f"GET /{path} HTTP/1.0\r\nHost: {place}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((host, int(port or 80)), timeout=_PAGE_SECONDS) as connection:
            connection.sendall(request.encode())
            head, _, body = _received(connection).partition(b"\r\n\r\n")
        first, *lines = head.lower().split(b"\r\n")
        status, fields = int(first.split()[1]), dict(line.split(b":", 1) for line in lines)
        is_whole = len(body) >= int(fields.get(b"content-length", 0))
    except (OSError, ValueError, IndexError):
        return 0, ""
    return (status, body.decode(errors="replace") if status == 200 else "") if is_whole else (0, "")


def _received(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def read_pages(urls: Sequence[object], *, patience: float = 0.0) -> list[tuple[int, str]]:
    """Read pages at once, so that several servers that do not answer take no longer than one.

    :param patience: how many seconds to read them again until each answers with status 200
    """
    end = time.monotonic() + patience
    while True:
        found: dict[int, tuple[int, str]] = {}

        def read(place: int, url: str, found: dict[int, tuple[int, str]] = found) -> None:
            found[place] = _page(url)

        readers = [threading.Thread(target=read, args=(place, str(url))) for place, url in enumerate(urls)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        pages = [found[place] for place in range(len(urls))]
        if all(status == 200 for status, _ in pages) or time.monotonic() > end:
            return pages
        time.sleep(_PAUSE)


def wait_up(path: str, groups: Sequence[Sequence[object]], *, patience: float) -> None:
    """Wait until HAProxy finds a server of each group up, ``patience`` seconds at most.

    :param groups: each of servers, as ``backend/server``
    :raises OSError: HAProxy does not answer
    """
    end = time.monotonic() + patience
    while time.monotonic() < end:
        head, *rows = (line.split(",") for line in _ask(path, "show stat").removeprefix("# ").splitlines())
        status = head.index("status")
        up = {f"{row[0]}/{row[1]}" for row in rows if len(row) > status and row[status].startswith("UP")}
        if all(up.intersection(map(str, group)) for group in groups):
            return
        time.sleep(_PAUSE)


def answer_to(request: Mapping[str, object]) -> dict[str, object]:
    """Carry out a request: replace ``files``, send ``commands``, read ``pages``; a key that is missing is left out.

    Keys: folder, files and unless_changed (see :func:`replace_files`), socket and commands (see :func:`send`), up
    (see :func:`wait_up`), pages (URLs), patience (seconds for both, none by default). The answer has ``changed``
    (nothing was done, since a file is not as it must be), or ``answers``, ``statuses`` and the texts of ``pages``, or
    ``error``.
    """
    files, unless = request.get("files"), request.get("unless_changed")
    try:
        if isinstance(files, Mapping) and not replace_files(
            str(request["folder"]), files, unless if isinstance(unless, Mapping) else {}
        ):
            return {"changed": True}
        commands, pages = request.get("commands"), request.get("pages")
        patience = float(str(request.get("patience", 0)))
        answers = send(str(request["socket"]), commands) if isinstance(commands, Sequence) else []
        if isinstance(up := request.get("up"), Sequence) and up:
            wait_up(str(request["socket"]), up, patience=patience)
        read = read_pages(pages, patience=patience) if isinstance(pages, Sequence) else []
        statuses, texts = [status for status, _ in read], [text for _, text in read]
        return {"answers": answers, "statuses": statuses, "pages": texts}
    except OSError as error:
        return {"error": str(error)}


def packed(request: Mapping[str, object]) -> str:
    """Return a request as an argument: compressed, since a system limits an argument and a server the URL with it."""
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(request).encode())).decode()


def unpacked(argument: str) -> dict[str, object]:
    """Return the request of an argument; plain JSON is one, too."""
    text = argument if argument.startswith("{") else zlib.decompress(base64.urlsafe_b64decode(argument))
    return dict(json.loads(text))


if __name__ == "__main__":
    print(json.dumps(answer_to(unpacked(sys.argv[1]))))
