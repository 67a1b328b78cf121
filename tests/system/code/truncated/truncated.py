import json


def train(job):
    for step in (1, 2, 3):
        with job.checkpoint(step=step) as path:
            path.write_text(json.dumps({"loss": 1 / step}))
    # What a full disk or a crash of the machine leaves: the best checkpoint, cut short after it was recorded.
    with (job.output / "checkpoints" / "train-000003").open("r+") as file:
        file.truncate(3)


def evaluate(job, checkpoint):
    if job.params.get("refuse") == checkpoint.read_text():
        raise ValueError("cannot load this checkpoint")
    return json.loads(checkpoint.read_text())
