import time


def train(job):
    """Write a checkpoint each second, from the last one on."""
    resumed = job.resume_from()
    start = int(resumed.path.read_text()) if resumed else 0
    for step in range(start + 1, job.params["steps"] + 1):
        time.sleep(1)
        with job.checkpoint(step=step) as path:
            path.write_text(str(step))
