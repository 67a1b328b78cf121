"""A frozen model behind the server's own functions: each golden input as a request, each answer as a response."""

import json
from pathlib import Path

import numpy
from modelway.job.freezing.comparison import compare
from modelway.job.freezing.golden import read_calls
from modelway.server.core.runtime import load_model
from modelway.server.core.tensors import check_shape, from_binary, to_binary


def tolerance_of(folder: Path) -> dict[str, float]:
    """Return how far answers may be from the checkpoint's: by default, or for weights of 16 bits."""
    try:
        tensors = json.loads((folder / "outputs" / "model.yml").read_text())["tensors"]
    except ValueError:
        tensors = []
    half = any(each["dtype"] == "float16" for each in tensors)
    return {"absolute": 0.01, "relative": 0.01} if half else {"absolute": 1e-4, "relative": 1e-3}


def served_difference(folder: Path) -> float:
    """Return how far the served answers to the golden inputs are from the checkpoint's; every one must be near."""
    model = load_model(folder, threads=1)
    model.warm_up()
    known = model.signature.known_inputs
    largest = 0.0
    for call, (inputs, expected) in read_calls(folder).items():
        request = {}
        for name, array in inputs.items():
            shape = check_shape(known[name], list(array.shape))
            request[name] = from_binary(known[name], shape, memoryview(to_binary(known[name], array)))
        answers = model.run(request)
        assert set(answers) == set(expected)
        for spec in model.signature.outputs:
            array = answers[spec.name]
            assert len(spec.shape) == array.ndim
            assert all(want in (-1, got) for want, got in zip(spec.shape, array.shape, strict=True)), (call, spec)
            back = from_binary(spec, array.shape, memoryview(to_binary(spec, numpy.asarray(array))))
            found = compare(back, expected[spec.name], **tolerance_of(folder))
            assert found.reason is None, (call, spec.name, found.reason)
            largest = max(largest, found.largest)
    return largest
