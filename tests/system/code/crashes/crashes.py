import json
import os
import signal


def train(job):
    for step, loss in enumerate(job.params["losses"], start=1):
        with job.checkpoint(step=step) as path:
            path.write_text(json.dumps(loss))


def evaluate(job, checkpoint):
    loss = json.loads(checkpoint.read_text())
    if loss == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return {"loss": float(loss)}
