"""Requests of the Open Inference Protocol with binary tensors, so that every number arrives unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelway.job.freezing.outputs import DATATYPES

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]

#: header that says how many bytes of a body are JSON; the tensors' bytes follow
JSON_LENGTH = "inference-header-content-length"
#: numpy's type of each datatype that is sent as bytes; numpy and torch use the same names
_TYPES = {datatype: name for name, datatype in DATATYPES.items()}


def encode_request(described: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of an infer request.

    :param described: the model's inputs and outputs, as ``outputs/model.yml`` of an archive has them
    """
    entries, blocks = [], []
    for each in described["inputs"]:
        name, datatype = each["name"], each["datatype"]
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(arrays[name].shape)}
        if datatype in _TYPES:
            blocks.append(arrays[name].astype(_TYPES[datatype]).tobytes())
            entry["parameters"] = {"binary_data_size": len(blocks[-1])}
        else:
            entry["data"] = arrays[name].flatten().tolist()
        entries.append(entry)
    wanted = [
        {"name": each["name"], "parameters": {"binary_data": each["datatype"] in _TYPES}}
        for each in described["outputs"]
    ]
    text = json.dumps({"inputs": entries, "outputs": wanted}).encode()
    headers = {JSON_LENGTH: str(len(text)), "content-type": "application/octet-stream"}
    return b"".join([text, *blocks]), headers


def decode_answer(body: bytes, json_length: str | None) -> dict[str, Array]:
    """Return the outputs of an answer by name.

    :raises ValueError: it does not follow the protocol
    """
    import numpy

    outputs = {}
    try:
        place = len(body) if json_length is None else int(json_length)
        for each in json.loads(body[:place])["outputs"]:
            size = (each.get("parameters") or {}).get("binary_data_size")
            if size is None:
                array = numpy.array(each["data"], dtype=_TYPES.get(each["datatype"], object))
            else:
                array = numpy.frombuffer(body[place : place + size], dtype=_TYPES[each["datatype"]])
                place += size
            outputs[each["name"]] = array.reshape(each["shape"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the predictor's answer cannot be read ({error!r})") from error
    return outputs
