"""What a deployment checks of a predictor before it gets traffic: its signature, and its answers to golden inputs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.errors import EndpointNotReady, VerificationFailed
from modelway.job.inference import JSON_LENGTH, decode_answer, encode_request

if TYPE_CHECKING:
    import httpx
    import numpy

    Array = numpy.ndarray[Any, Any]

#: the golden batch to send, where the archive has it; otherwise the smallest one
GOLDEN_BATCH = "2"


@dataclass(frozen=True)
class Tensor:
    """An input or output; -1 in ``shape`` stands for any length."""

    datatype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Return the text that messages show."""
        return f"{self.datatype} {list(self.shape)}"

    def accepts(self, other: "Tensor") -> bool:
        """Return whether every tensor of the form ``other`` has this form, too."""
        same = self.datatype == other.datatype and len(self.shape) == len(other.shape)
        return same and all(mine in (-1, length) for mine, length in zip(self.shape, other.shape, strict=True))


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Inputs and outputs of a version, by name."""

    version: int
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]


def read_signature(*, url: str, model: str, version: int, authorised: Mapping[str, str] | None = None) -> Signature:
    """Return the signature of the predictor at ``url``.

    :param authorised: headers that its address demands
    :raises EndpointNotReady: it does not answer, or does not follow the protocol
    """
    address, headers = f"{url}/v2/models/{model}", dict(authorised or {})
    answer = _send("GET", address, url=url, headers=headers)
    if answer.status_code in (404, 405):
        # Some platforms let nothing through but POST, and a server there answers it.
        answer = _send("POST", address, url=url, headers=headers)
    try:
        document = answer.json()
        sides = [
            {each["name"]: Tensor(each["datatype"], tuple(each["shape"])) for each in document[side]}
            for side in ("inputs", "outputs")
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise EndpointNotReady(
            f"the predictor does not describe its inputs and outputs (status {answer.status_code})", where=url
        ) from error
    return Signature(version=version, inputs=sides[0], outputs=sides[1])


def breaking_changes(*, serving: Signature, new: Signature) -> list[str]:
    """Return the changes that would break callers of the version that serves, a phrase each."""
    return [*_breaking("input", serving, new), *_new_inputs(serving, new), *_breaking("output", serving, new)]


def harmless_changes(*, serving: Signature, new: Signature) -> list[str]:
    """Return the changes that do not affect callers: more outputs, inputs that accept more."""
    added = [f"output '{name}' ({new.outputs[name]}) is new" for name in new.outputs.keys() - serving.outputs.keys()]
    wider = [
        f"input '{name}' takes {new.inputs[name]}, was {tensor}"
        for name, tensor in serving.inputs.items()
        if name in new.inputs and new.inputs[name] != tensor and new.inputs[name].accepts(tensor)
    ]
    return sorted(added) + wider


def _breaking(side: str, serving: Signature, new: Signature) -> Iterable[str]:
    before, after = (each.inputs if side == "input" else each.outputs for each in (serving, new))
    for name, tensor in before.items():
        if name not in after:
            yield f"{side} '{name}' ({tensor}) of version {serving.version} is missing in version {new.version}"
        elif tensor != after[name] and not (side == "input" and after[name].accepts(tensor)):
            yield f"{side} '{name}' is {tensor} in version {serving.version}, {after[name]} in version {new.version}"


def _new_inputs(serving: Signature, new: Signature) -> Iterable[str]:
    for name, tensor in new.inputs.items():
        if name not in serving.inputs:
            yield f"input '{name}' ({tensor}) of version {new.version} is unknown to version {serving.version}"


def golden_difference(
    *,
    url: str,
    model: str,
    folder: Path,
    absolute: float,
    relative: float,
    authorised: Mapping[str, str] | None = None,
) -> float:
    """Send a predictor one golden batch over HTTP and return the largest difference from the golden answers.

    Files that were frozen without examples have none, and nothing is compared.

    Tensors are sent as bytes, so that every number arrives unchanged, infinities and NaN included.

    :param folder: an unpacked model archive
    :param authorised: headers that the predictor's address demands
    :raises VerificationFailed: an answer is missing, refused or too far off
    :raises EndpointNotReady: the predictor does not answer
    """
    from modelway.job.freezing.comparison import compare

    described = json.loads((folder / "outputs" / "model.yml").read_text())
    if (call := _golden_batch(folder)) is None:
        return 0.0
    inputs, expected = call
    body, headers = encode_request(described, inputs)
    answer = _send(
        "POST", f"{url}/v2/models/{model}/infer", url=url, content=body, headers={**headers, **(authorised or {})}
    )
    if answer.status_code != 200:
        raise VerificationFailed(f"the predictor answered {answer.status_code}: {answer.text[:300]}", where=url)
    try:
        outputs = decode_answer(answer.content, answer.headers.get(JSON_LENGTH))
    except ValueError as error:
        raise VerificationFailed(str(error), where=url) from error
    largest = 0.0
    for name, golden in expected.items():
        if name not in outputs:
            raise VerificationFailed(f"the predictor's answer lacks the output '{name}'", where=url)
        found = compare(outputs[name], golden, absolute=absolute, relative=relative)
        if found.reason is not None:
            raise VerificationFailed(
                f"the predictor's output '{name}' is not the checkpoint's: it {found.reason}", where=url
            )
        largest = max(largest, found.largest)
    return largest


def _golden_batch(folder: Path) -> tuple[dict[str, "Array"], dict[str, "Array"]] | None:
    """Return inputs and expected outputs of one golden batch, by name: a small one, since requests have a limit."""
    from modelway.job.freezing.golden import read_calls

    calls = read_calls(folder)
    smallest = min(calls.values(), key=lambda sides: sum(one.nbytes for one in sides[0].values()), default=None)
    return calls.get(GOLDEN_BATCH) or smallest


def _send(method: str, address: str, *, url: str, **options: Any) -> "httpx.Response":
    import httpx

    # To read the authorities of TLS takes longer than the request of a predictor without it.
    verify = address.startswith("https:")
    try:
        return httpx.request(method, address, timeout=30, verify=verify, **options)
    except httpx.HTTPError as error:
        raise EndpointNotReady(f"the predictor does not answer ({type(error).__name__}: {error})", where=url) from error
