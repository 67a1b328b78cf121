import time
from pathlib import Path

GATE = Path("GATE_FOLDER")


def train(job):
    (GATE / f"{job.spec['model']}.began").touch()
    while not (GATE / f"{job.spec['model']}.open").exists():
        time.sleep(0.1)
    job.log(step=1, rate=job.params["rate"])
    with job.checkpoint(step=1) as path:
        path.write_text("nothing was learned")


def evaluate(job, checkpoint):
    return {"loss": 1.0}


def export(job, checkpoint):
    """Give an ONNX program: torch, and its export, would take seconds."""
    import numpy as np
    import onnx.parser

    weight = np.ones((4, 2), np.float32)
    program = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> linear (float[batch, 4] input) => (float[batch, 2] output)'
        f"<float[4, 2] weight = {{{', '.join(f'{each:.9f}' for each in weight.flatten())}}}>"
        "{ output = MatMul (input, weight) }"
    )
    onnx.save(program, "model.onnx")
    answers = {"answers": lambda inputs: {"output": inputs["input"] @ weight}}
    return "model.onnx", {"input": np.eye(2, 4, dtype=np.float32)}, answers
