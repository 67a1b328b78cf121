import json


def train(job):
    for step in range(1, 4):
        job.log(step=step, train_loss=1 / step)
        with job.checkpoint(step=step) as path:
            path.write_text(json.dumps(step))


def evaluate(job, checkpoint):
    return {"loss": 1 / json.loads(checkpoint.read_text())}


def export(job, checkpoint):
    """Give an ONNX program: torch, and its export, would take seconds."""
    import numpy as np
    import onnx.parser

    weight = np.full((4, 2), json.loads(checkpoint.read_text()), np.float32)
    program = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> linear (float[batch, 4] input) => (float[batch, 2] output)'
        f"<float[4, 2] weight = {{{', '.join(f'{each:.9f}' for each in weight.flatten())}}}>"
        "{ output = MatMul (input, weight) }"
    )
    onnx.save(program, "model.onnx")
    answers = {"answers": lambda inputs: {"output": inputs["input"] @ weight}}
    return "model.onnx", {"input": np.eye(2, 4, dtype=np.float32)}, answers
