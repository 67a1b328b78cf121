import time
from pathlib import Path


def train(job):
    """Train a step each second, from the last checkpoint on, until a file says that it is enough."""
    resumed = job.resume_from()
    step = int(resumed.path.read_text()) if resumed else 0
    print("begins at step", step)
    while not Path(job.params["until"]).exists():
        time.sleep(1)
        step += 1
        if step % 5 == 0:
            save(job, step)
    save(job, step + 1)


def save(job, step):
    with job.checkpoint(step=step) as path:
        path.write_text(str(step))
