import json
import os
import random
import signal


def train(job):
    # Without torch, whose import takes longer than all of this.
    weights, start = [random.random() for _ in range(8)], 0
    if resumed := job.resume_from():
        weights, start = json.loads(resumed.path.read_text()), resumed.step
    job.note(f"begins after step {start}")
    job.note(f"sees {' '.join(sorted(os.environ))}")
    for step in range(start + 1, 4):
        job.log(step=step, train_loss=1 / step)
        with job.checkpoint(step=step) as path:
            path.write_text(json.dumps(weights))
        if step == 2 and not resumed:
            os.kill(os.getpid(), signal.SIGKILL)


def evaluate(job, checkpoint):
    weights = json.loads(checkpoint.read_text())
    return {"loss": sum(weight * weight for weight in weights) / len(weights)}


def export(job, checkpoint):
    """Give an ONNX program: torch, and its export, would take seconds."""
    import numpy as np
    import onnx.parser

    weight = np.array(json.loads(checkpoint.read_text()), np.float32).reshape(4, 2)
    program = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> linear (float[batch, 4] input) => (float[batch, 2] output)'
        f"<float[4, 2] weight = {{{', '.join(f'{each:.9f}' for each in weight.flatten())}}}>"
        "{ output = MatMul (input, weight) }"
    )
    onnx.save(program, "model.onnx")
    answers = {"answers": lambda inputs: {"output": inputs["input"] @ weight}}
    return "model.onnx", {"input": np.eye(2, 4, dtype=np.float32)}, answers
