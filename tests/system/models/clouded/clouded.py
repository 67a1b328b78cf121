import json
import random


def train(job):
    with job.checkpoint(step=1) as path:
        path.write_text(json.dumps({"number": random.random()}))


def evaluate(job, checkpoint):
    return {"loss": 0.5}


def export(job, checkpoint):
    import torch

    net = torch.nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.fill_(json.loads(checkpoint.read_text())["number"])
    return net, torch.rand(2, 4)


def accept(job, served):
    """Ask the version for all of its golden requests."""
    for request in served.golden.values():
        answer = served.infer(request.inputs)
        assert {name: array.shape for name, array in answer.items()} == {
            name: array.shape for name, array in request.outputs.items()
        }
    return {"requests": len(served.golden)}
