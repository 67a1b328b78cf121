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
    import torch

    net = torch.nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.fill_(float(len(json.loads(checkpoint.read_text())["content"])))
    return net, torch.rand(2, 4)
