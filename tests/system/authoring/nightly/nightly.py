import json


def train(job):
    """Keep what the job was given, so that a test can read it from the checkpoint."""
    start, end = job.interval
    day = job.datasets["day"]
    given = {
        "interval": [start.isoformat(), end.isoformat()],
        "partition": job.partition,
        "uri": day.uri,
        "digest": day.digest,
        "content": day.path.read_text(),
    }
    with job.checkpoint(step=1) as path:
        path.write_text(json.dumps(given))


def evaluate(job, checkpoint):
    return {"loss": float(len(json.loads(checkpoint.read_text())["content"]))}


def export(job, checkpoint):
    """Give an ONNX program: torch, and its export, would take seconds."""
    import numpy as np
    import onnx.parser

    weight = np.full((4, 2), len(json.loads(checkpoint.read_text())["content"]), np.float32)
    program = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> linear (float[batch, 4] input) => (float[batch, 2] output)'
        f"<float[4, 2] weight = {{{', '.join(f'{each:.9f}' for each in weight.flatten())}}}>"
        "{ output = MatMul (input, weight) }"
    )
    onnx.save(program, "model.onnx")
    answers = {"answers": lambda inputs: {"output": inputs["input"] @ weight}}
    return "model.onnx", {"input": np.eye(2, 4, dtype=np.float32)}, answers
