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
    import torch

    return torch.nn.Linear(4, 2), torch.rand(2, 4)
