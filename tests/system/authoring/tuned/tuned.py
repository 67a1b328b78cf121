import json
import random
import time


def train(job):
    """Keep what the job was given, so that a test can read it from the checkpoint."""
    before = json.loads(job.start_from.read_text()) if job.start_from else None
    given = {"params": job.params, "seed": job.seed, "stage": job.stage, "after": before, "at": time.time_ns()}
    given["number"] = random.random()
    job.log(step=1, train_loss=1 / job.params["epochs"])
    with job.checkpoint(step=1) as path:
        path.write_text(json.dumps(given))


def evaluate(job, checkpoint):
    given = json.loads(checkpoint.read_text())
    losses = [1.0 if given["stage"] == "first" else 0.5] * 20
    job.row_metrics(values={"loss": losses}, rows=range(20))
    return {"loss": sum(losses) / len(losses)}


def export(job, checkpoint):
    """Give an ONNX program: torch, and its export, would take seconds."""
    import numpy as np
    import onnx.parser

    weight = np.full((4, 2), json.loads(checkpoint.read_text())["number"], np.float32)
    program = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> linear (float[batch, 4] input) => (float[batch, 2] output)'
        f"<float[4, 2] weight = {{{', '.join(f'{each:.9f}' for each in weight.flatten())}}}>"
        "{ output = MatMul (input, weight) }"
    )
    onnx.save(program, "model.onnx")
    answers = {"answers": lambda inputs: {"output": inputs["input"] @ weight}}
    return "model.onnx", {"input": np.eye(2, 4, dtype=np.float32)}, answers
