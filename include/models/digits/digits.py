"""Handwritten digits: a small convolutional network on scikit-learn's bundled 1,797 real images of 8 x 8 pixels."""

import torch
from sklearn.datasets import load_digits
from torch import distributed, nn


class Dropout(nn.Module):
    """Dropout with the mask of the whole batch: processes that share a batch train as one process would."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share, self.batch, self.rows = share, None, slice(None)

    def forward(self, x):
        if not self.training:
            return x
        whole = x.new_ones(self.batch or len(x), *x.shape[1:])
        return x * nn.functional.dropout(whole, self.share)[self.rows]


class Net(nn.Module):
    """Two convolutions and a linear layer: images with grey levels 0 to 16 in, ten logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classify = nn.Sequential(nn.Flatten(), Dropout(0.3), nn.Linear(64 * 4 * 4, 10))

    def forward(self, image):
        return self.classify(self.features(image / 16))


def data(part):
    """Images and labels of one part; the same split in every stage and evaluation."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None]
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    chosen = order[:1400] if part == "train" else order[1400:]
    return images[chosen], labels[chosen]


def train(job):
    """Train one stage: from the stage before, or from this stage's own last checkpoint after a crash."""
    device = torch.device("cuda", job.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    net, start, epochs = Net().to(device), 0, job.params["epochs"]
    optimizer = torch.optim.Adam(net.parameters(), lr=job.params["lr"])
    if resumed := job.resume_from():
        state = torch.load(resumed.path, map_location=device, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["epoch"]
    elif job.start_from:
        net.load_state_dict(torch.load(job.start_from, map_location=device, weights_only=True)["net"])
    images, labels = (each.to(device) for each in data("train"))
    job.dataset(name="sklearn-digits/train", uri="sklearn://datasets/digits", rows=len(images))
    shared = share(net, job, device)
    for epoch in range(start + 1, epochs + 1):
        torch.manual_seed(job.seed * 1000 + epoch)
        total = 0.0
        batches = torch.randperm(len(images)).split(job.params["batch_size"])
        for step, batch in enumerate(batches, start=(epoch - 1) * len(batches) + 1):
            mine = rows(batch, net, job)
            # The processes' gradients are averaged: times their number, it is the gradient of the batch's mean.
            loss = nn.functional.cross_entropy(shared(images[mine]), labels[mine], reduction="sum") / len(batch)
            optimizer.zero_grad()
            (loss * job.world_size).backward()
            optimizer.step()
            total += loss.item() * len(batch)
            job.progress(step=step, total=epochs * len(batches), examples=len(batch), loss=loss.item())
        job.log(step=epoch, train_loss=summed(total, job, device) / len(images))
        with job.checkpoint(step=epoch) as path:
            torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, path)


def share(net, job, device):
    """The network whose gradients are averaged over the job's processes; itself where there is one."""
    if job.world_size == 1:
        return net
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    return nn.parallel.DistributedDataParallel(net, device_ids=[device] if on_gpu else None)


def rows(batch, net, job):
    """This process's rows of a batch; the network's dropout takes the same."""
    dropout = net.classify[1]
    dropout.batch, dropout.rows = len(batch), slice(job.rank, None, job.world_size)
    return batch[dropout.rows]


def summed(number, job, device):
    """The sum of a number over the job's processes."""
    if job.world_size == 1:
        return number
    total = torch.tensor(number, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return total.item()


def evaluate(job, checkpoint):
    """Loss and accuracy on the 397 images that training never saw."""
    net = load(checkpoint)
    images, labels = data("test")
    with torch.inference_mode():
        logits = net(images)
    job.predictions(labels=labels, scores=logits, inputs={"image": images})
    return {
        "loss": nn.functional.cross_entropy(logits, labels).item(),
        "accuracy": (logits.argmax(1) == labels).float().mean().item(),
    }


def export(job, checkpoint):
    """The network to freeze, and inputs of the shape it takes."""
    return load(checkpoint), {"image": torch.rand(2, 1, 8, 8) * 16}


def load(checkpoint):
    """The network with a checkpoint's weights."""
    net = Net()
    net.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["net"])
    return net.eval()
