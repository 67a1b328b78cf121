"""``python -m modelway.server.rest.translate MODEL_DIR VALUES``: turn large JSON requests into binary ones.

Parsing JSON cannot be interrupted by other threads of a process. So that other clients do not wait for it, large JSON
is parsed in this process: at lower priority, with a limit on its memory, restarted when it dies. ``Translator`` is the
server's side. Each message, in both directions, is a line of JSON, ``{"size": BYTES, ...}``, and that many bytes.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import orjson

from modelway.server.core.process import limit_memory
from modelway.server.core.refusal import CannotServe, Refusal
from modelway.server.core.signature import Signature, read_signature
from modelway.server.core.tensors import to_binary
from modelway.server.rest.codec import decode, whole

#: approximate bytes of JSON of a value; the memory for parsing depends on the number of values
JSON_BYTES_OF_A_VALUE = 16
#: bytes that one JSON value may need while it is parsed, with some reserve
_PER_VALUE = 192


class Translator:
    """The server's side; one request at a time, to be called from one thread of its own."""

    def __init__(self, model_dir: Path, *, max_values: int) -> None:
        """Prepare the process; it starts with the first request.

        :param max_values: JSON values of one request, at most
        """
        # the same package as this process, wherever it was imported from
        self._environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
        self._argv = [sys.executable, "-P", "-m", "modelway.server.rest.translate", str(model_dir), str(max_values)]
        self._process: subprocess.Popen[bytes] | None = None

    def binary(
        self, body: bytes | bytearray, json_length: str | None, *, instances: bool = False
    ) -> tuple[bytes, str, bool]:
        """Return the request with all tensors in binary form, the length of its JSON part, and whether it had Vertex's.

        :param instances: whether it may have Vertex AI's form

        :raises Refusal: 400 or 413, as the decoder does; 413 also when the process does not survive the request
        """
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                self._argv, env=self._environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            _write(self._process.stdin, {"json_length": json_length, "instances": instances}, body)
            head, content = _read(self._process.stdout)
        except (OSError, EOFError) as error:
            self.close()
            raise Refusal(413, "the JSON takes too much memory, send large tensors as binary data") from error
        if "status" in head:
            raise Refusal(head["status"], content.decode())
        return content, str(head["json_length"]), head["predictions"]

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def translate(
    body: bytes, json_length: str | None, signature: Signature, *, max_values: int, instances: bool = False
) -> tuple[bytes, int, bool]:
    """Return the request in binary form, the length of its JSON part, and whether it had Vertex AI's form.

    :raises Refusal: 400 or 413
    """
    end = len(body) if json_length is None else whole(json_length) or 0
    # an upper limit of the values in it, without parsing
    values = sum(body.count(mark, 0, end) for mark in (b",", b"[", b"{"))
    if values > max_values:
        raise Refusal(413, f"more than {max_values} JSON values in one request, send large tensors as binary data")
    inference = decode(body, json_length, signature, instances=instances)
    entries, blocks = [], []
    for spec in signature.inputs:
        array = inference.inputs[spec.name]
        blocks.append(to_binary(spec, array))
        entry = {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape)}
        entries.append({**entry, "parameters": {"binary_data_size": len(blocks[-1])}})
    outputs = [{"name": spec.name, "parameters": {"binary_data": binary}} for spec, binary in inference.outputs]
    text = orjson.dumps({"id": inference.id, "inputs": entries, "outputs": outputs})
    return b"".join((text, *blocks)), len(text), inference.predictions


def main(model_dir: Path, max_values: int) -> int:
    """Translate until the server closes the pipe."""
    os.nice(10)
    # the request and its binary form, besides the parsed values
    limit_memory(max_values * (_PER_VALUE + 3 * JSON_BYTES_OF_A_VALUE))
    signature = read_signature(model_dir / "outputs" / "model.yml")
    while True:
        try:
            head, body = _read(sys.stdin.buffer)
        except EOFError:
            return 0
        try:
            content, length, predictions = translate(
                body, head["json_length"], signature, max_values=max_values, instances=head["instances"]
            )
            answer = {"json_length": length, "predictions": predictions}
        except Refusal as refusal:
            content, answer = str(refusal).encode(), {"status": refusal.status}
        except MemoryError:
            content, answer = b"the JSON takes too much memory, send large tensors as binary data", {"status": 413}
        del body
        _write(sys.stdout.buffer, answer, content)


def _write(file: IO[bytes], head: dict[str, Any], content: bytes | bytearray) -> None:
    file.write(json.dumps({**head, "size": len(content)}).encode() + b"\n")
    file.write(content)
    file.flush()


def _read(file: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    line = file.readline()
    if not line:
        raise EOFError
    head = json.loads(line)
    content = file.read(head["size"])
    if len(content) < head["size"]:
        raise EOFError
    return head, content


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
    except CannotServe:
        sys.exit(2)
    except (BrokenPipeError, KeyboardInterrupt):
        # the server is gone
        os._exit(0)
