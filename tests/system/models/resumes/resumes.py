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
    import torch

    net = torch.nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(json.loads(checkpoint.read_text())).reshape(2, 4))
    return net, torch.rand(2, 4)
