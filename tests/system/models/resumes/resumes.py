import os
import signal

import torch


def train(job):
    net, start = torch.nn.Linear(4, 2), 0
    if resumed := job.resume_from():
        net.load_state_dict(torch.load(resumed.path, weights_only=True))
        start = resumed.step
    job.note(f"begins after step {start}")
    job.note(f"sees {' '.join(sorted(os.environ))}")
    for step in range(start + 1, 4):
        job.log(step=step, train_loss=1 / step)
        with job.checkpoint(step=step) as path:
            torch.save(net.state_dict(), path)
        if step == 2 and not resumed:
            os.kill(os.getpid(), signal.SIGKILL)


def evaluate(job, checkpoint):
    weights = torch.load(checkpoint, weights_only=True)
    return {"loss": float(weights["weight"].square().mean())}


def export(job, checkpoint):
    net = torch.nn.Linear(4, 2)
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    return net, torch.rand(2, 4)
