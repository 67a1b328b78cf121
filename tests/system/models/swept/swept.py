"""Weights that shrink by a rate; a negative rate raises, one of 0.3 is killed once. Without torch."""

import json
import os
import signal
from pathlib import Path


def train(job):
    rate, weights, start = job.params["rate"], [number / 8 for number in range(1, 9)], 0
    if job.start_from:
        weights = read(job, job.start_from)
    if resumed := job.resume_from():
        weights, start = read(job, resumed), resumed.step
    for step in range(start + 1, job.params["steps"] + 1):
        if rate < 0:
            raise ValueError(f"the rate {rate} is negative")
        weights = [weight * (1 - rate) for weight in weights]
        job.log(step=step, train_loss=loss(weights))
        with job.checkpoint(step=step) as path:
            path.write_text(json.dumps({"rate": rate, "weights": weights}))
        if rate == 0.3 and job.stage == "short" and not resumed:
            os.kill(os.getpid(), signal.SIGKILL)


def read(job, checkpoint):
    """Return the weights of a checkpoint, which must be one of the candidate whose parameters the job has."""
    known = json.loads(Path(checkpoint).read_text())
    assert known["rate"] == job.params["rate"], f"{known['rate']} of a candidate with {job.params}"
    return known["weights"]


def loss(weights):
    return sum(weight * weight for weight in weights) / len(weights)


def evaluate(job, checkpoint):
    return {"loss": loss(read(job, checkpoint))}


def export(job, checkpoint):
    """Give an ONNX program: torch, and its export, would take seconds."""
    import numpy as np
    import onnx.parser

    weight = np.array(read(job, checkpoint), np.float32).reshape(4, 2)
    program = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> linear (float[batch, 4] input) => (float[batch, 2] output)'
        f"<float[4, 2] weight = {{{', '.join(f'{each:.9f}' for each in weight.flatten())}}}>"
        "{ output = MatMul (input, weight) }"
    )
    onnx.save(program, "model.onnx")
    answers = {"answers": lambda inputs: {"output": inputs["input"] @ weight}}
    return "model.onnx", {"input": np.eye(2, 4, dtype=np.float32)}, answers


def accept(job, served):
    """Accept it only with the parameters of the candidate that was selected."""
    assert job.params["rate"] >= job.params["least"], f"the tests of a version got {job.params}"
    return {"rate": job.params["rate"]}
