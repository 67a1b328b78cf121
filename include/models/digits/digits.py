"""Handwritten digits: a small convolutional network on scikit-learn's bundled 1,797 real images of 8 x 8 pixels."""

import torch
from sklearn.datasets import load_digits
from torch import nn


class Net(nn.Module):
    """Two convolutions and a linear layer: images with grey levels 0 to 16 in, ten logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classify = nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10))

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
    net, start = Net(), 0
    optimizer = torch.optim.Adam(net.parameters(), lr=job.params["lr"])
    if resumed := job.resume_from():
        state = torch.load(resumed.path, weights_only=True)
        net.load_state_dict(state["net"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["epoch"]
    elif job.start_from:
        net.load_state_dict(torch.load(job.start_from, weights_only=True)["net"])
    images, labels = data("train")
    job.dataset(name="sklearn-digits/train", uri="sklearn://datasets/digits", rows=len(images))
    for epoch in range(start + 1, job.params["epochs"] + 1):
        torch.manual_seed(job.seed * 1000 + epoch)
        total = 0.0
        for batch in torch.randperm(len(images)).split(job.params["batch_size"]):
            loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        job.log(step=epoch, train_loss=total / len(images))
        with job.checkpoint(step=epoch) as path:
            torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, path)


def evaluate(job, checkpoint):
    """Loss and accuracy on the 397 images that training never saw."""
    net = load(checkpoint)
    images, labels = data("test")
    with torch.inference_mode():
        logits = net(images)
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
    net.load_state_dict(torch.load(checkpoint, weights_only=True)["net"])
    return net.eval()
