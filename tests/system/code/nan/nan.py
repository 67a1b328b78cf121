import json


def train(job):
    for step, loss in enumerate(job.params["losses"], start=1):
        with job.checkpoint(step=step) as path:
            path.write_text(json.dumps(loss))


def evaluate(job, checkpoint):
    return {"loss": float(json.loads(checkpoint.read_text()))}
