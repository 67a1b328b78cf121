"""The acceptance of a version: the model's own ``accept(job, served)`` against its predictor, before any traffic."""

from __future__ import annotations

import json
import math
import os
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelway.job.contract import Job
from modelway.job.freezing.golden import read_calls
from modelway.job.inference import JSON_LENGTH, decode_answer, encode_request
from modelway.job.zip_limits import zip_problem

if TYPE_CHECKING:
    import numpy

    Arrays = Mapping[str, numpy.ndarray[Any, Any]]

#: what an acceptance leaves: its metrics
REPORT = "output/acceptance.json"
#: how long an answer may take
ANSWER_SECONDS = 60.0
#: how long the metadata server of a machine on Google Cloud may take
METADATA_SECONDS = 10.0
#: variable with the token that the endpoint's address demands
TOKEN = "MODELWAY_ENDPOINT_TOKEN"
_UNPACKED = ("golden/", "outputs/model.yml")


@dataclass(frozen=True)
class GoldenRequest:
    """A recorded request: inputs by name, and the checkpoint's answers to them."""

    inputs: Arrays
    outputs: Arrays


class ServedVersion:
    """The version as its predictor serves it; it has no traffic yet, unless it is the first of all."""

    def __init__(self, job: Job) -> None:
        """Read where the job's version is served."""
        self._job = job
        known = job.spec["endpoint"]
        self.model: str = known["model"]
        self.version: int = known["version"]
        #: of this version alone; ``/infer`` is below it
        self.url: str = f"{known['url']}/v2/models/{self.model}/versions/{self.version}"

    @cached_property
    def folder(self) -> Path:
        """The folder with ``golden/inputs.safetensors``, ``golden/outputs.safetensors`` and ``outputs/model.yml``."""
        archive, to = self._job.input("archive"), self._job.folder / "unpacked"
        if archive is None:
            raise ValueError("the acceptance job has no archive")
        with zipfile.ZipFile(archive) as zipped:
            if problem := zip_problem(zipped):
                raise ValueError(f"the archive cannot be unpacked: {problem}")
            for name in zipped.namelist():
                if name.startswith(_UNPACKED):
                    zipped.extract(name, to)
        return to

    @property
    def authorised(self) -> dict[str, str]:
        """The headers that the address demands, for commands and clients of one's own; mostly none.

        The token is that of ``MODELWAY_ENDPOINT_TOKEN``, else of the machine's account on Google Cloud.

        :raises OSError: there is none
        """
        demanded = self._job.spec["endpoint"].get("authorisation")
        if not demanded:
            return {}
        return {"Authorization": f"Bearer {os.environ.get(TOKEN) or _token_of_machine(demanded)}"}

    @property
    def golden(self) -> dict[str, GoldenRequest]:
        """The recorded requests by name; none where the model was frozen without examples."""
        return {name: GoldenRequest(*sides) for name, sides in read_calls(self.folder).items()}

    def infer(self, inputs: Arrays) -> Arrays:
        """Return the version's answer to one request: outputs by name.

        :raises ValueError: it does not follow the protocol
        :raises OSError: there is no answer, or it is an error
        """
        described = json.loads((self.folder / "outputs" / "model.yml").read_text())
        body, headers = encode_request(described, inputs)
        request = urllib.request.Request(f"{self.url}/infer", data=body, headers={**headers, **self.authorised})
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
                return decode_answer(answer.read(), answer.headers.get(JSON_LENGTH))
        except urllib.error.HTTPError as error:
            raise OSError(f"{self.url} answered {error.code}: {error.read(300).decode(errors='replace')}") from None


def _token_of_machine(demanded: Mapping[str, str]) -> str:
    """Return a token of the account that the machine runs as, by Google Cloud's metadata server."""
    if demanded["kind"] == "identity":
        path = f"identity?audience={urllib.parse.quote(demanded['audience'], safe='')}"
    else:
        path = "token"
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    address = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/{path}"
    request = urllib.request.Request(address, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=METADATA_SECONDS) as answer:
            text = answer.read().decode()
    except OSError as error:
        raise OSError(
            f"the endpoint demands a token, and this machine has no account of Google Cloud ({error}): set {TOKEN}, "
            "or run the acceptance where it has one"
        ) from None
    return text.strip() if demanded["kind"] == "identity" else str(json.loads(text)["access_token"])


def environment_of(served: ServedVersion) -> dict[str, str]:
    """Return the environment variables by which a command finds the version."""
    return {
        "MODELWAY_ENDPOINT_URL": served.url,
        "MODELWAY_VERSION": str(served.version),
        "MODELWAY_GOLDEN": str(served.folder / "golden"),
    }


def record_acceptance(job: Job, metrics: object) -> None:
    """Write the metrics that ``accept`` returned, if any.

    :raises ValueError: they are no numbers by name
    """
    found = {} if metrics is None else metrics
    if not isinstance(found, Mapping):
        raise ValueError(f"accept returned {type(found).__name__}; return nothing, or metrics by name")
    numbers = {str(name): float(value) for name, value in found.items()}
    if wrong := [name for name, value in numbers.items() if not math.isfinite(value)]:
        raise ValueError(f"the metric '{wrong[0]}' of accept is {numbers[wrong[0]]}")
    beside = job.folder / f"{REPORT}.part"
    beside.write_text(json.dumps(numbers))
    os.replace(beside, job.folder / REPORT)
    print("accepted: " + json.dumps(numbers), flush=True)
