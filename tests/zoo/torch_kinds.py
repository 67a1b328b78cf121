"""Torch modules of the kinds that people have, each with tiny weights: what ``export(job, checkpoint)`` gives."""

import torch
from torch import nn

#: words that the language models know
WORDS = 40


class Masked(nn.Module):
    """Attention over the places that a mask leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.out = nn.Linear(4, 1), nn.Linear(4, 2)

    def forward(self, x, mask):
        score = self.score(x)[..., 0].masked_fill(~mask, -1e9).softmax(-1)
        return self.out((score[..., None] * x).sum(1))


class Stateful(nn.Module):
    """An LSTM whose state callers keep."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)

    def forward(self, x, h, c):
        y, state = self.lstm(x, (h, c))
        return {"y": y, "state": state}


class Bag(nn.Module):
    """Words of all texts in one row, and where each text begins."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(WORDS, 4)

    def forward(self, words, offsets):
        return self.bag(words, offsets)


class Nested(nn.Module):
    """Features of several scales, as a detector gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        hidden = self.one(x).relu()
        return [x * 2, (hidden, {"deep": self.two(hidden), "none": None})]


class Heads(nn.Module):
    """Several heads by name, one of which decides."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x):
        y = self.body(x)
        return {"logits": y, "probability": y.softmax(-1), "class": y.argmax(-1), "sure": y.softmax(-1).amax(-1) > 0.5}


class Turned(nn.Module):
    """Classes first, the batch last."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(x).t()


class Encoder(nn.Module):
    """A transformer encoder over any length, its input and output embedding one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(8, WORDS, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(self.body(self.embed(tokens)))


class Image(nn.Module):
    """Convolutions over images of any size, with BatchNorm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 2, 3, padding=1)
        )

    def forward(self, image):
        map = self.body(image)
        return {"map": map, "mean": map.mean((2, 3))}


class Buffers(nn.Module):
    """A scale in the checkpoint, one that is not in it, and a constant of the code."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 2)
        self.register_buffer("mean", torch.arange(4.0))
        self.register_buffer("scale", torch.full((4,), 2.0), persistent=False)

    def forward(self, x):
        return self.out((x - self.mean) / self.scale) + torch.tensor([1.0, -1.0])


class Half(nn.Module):
    """Weights of 16 bits, inputs and outputs of 32."""

    def __init__(self, dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).to(dtype)

    def forward(self, x):
        return self.body(x.to(self.dtype)).float()


class Recurrent(nn.Module):
    """A GRU in both directions, of which the last place counts."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.out = nn.GRU(3, 4, bidirectional=True, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.gru(x)[0][:, -1])


class Autoencoder(nn.Module):
    """Down and up again: transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 2, 2, stride=2), nn.ConvTranspose2d(2, 1, 2, stride=2)

    def forward(self, image):
        code = self.down(image).tanh()
        return self.up(code), code


class Graph(nn.Module):
    """Messages along edges, of which a graph has any number."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x, edges):
        return self.out(x.index_add(0, edges[1], x[edges[0]]))


class Branch(nn.Module):
    """Goes one of two ways by what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(x) if x.sum() > 0 else -self.out(x)


def kinds():
    """Return what ``export`` gives, by kind."""
    torch.manual_seed(7)
    x = torch.randn(8, 4)
    tokens = torch.randint(0, WORDS, (8, 6))
    mask = torch.arange(6)[None] < torch.arange(1, 9)[:, None]
    length, size = {1: "length"}, {2: "height", 3: "width"}
    state = torch.zeros(1, 8, 5)
    return {
        "two inputs with a mask": (
            Masked(),
            {"x": torch.randn(8, 6, 4), "mask": mask},
            {"dynamic": {"x": length, "mask": length}},
        ),
        "LSTM with state": (
            Stateful(),
            {"x": torch.randn(8, 6, 3), "h": state, "c": state + 0.1},
            {"unbatched": ["h", "c"], "dynamic": {"h": {1: "batch"}, "c": {1: "batch"}, "x": {0: "batch"}}},
        ),
        "tokens and an embedding bag": (
            Bag(),
            (torch.randint(0, WORDS, (20,)), torch.tensor([0, 3, 9])),
            {"unbatched": ["words"], "dynamic": {"words": {0: "words"}}},
        ),
        "nested outputs": (Nested(), x),
        "a dict with boolean outputs": (Heads(), x),
        "an output with the batch last": (Turned(), x),
        "a transformer with tied weights over any length": (Encoder(), tokens, {"dynamic": {"tokens": length}}),
        "images of any size, left in training mode": (
            Image().train(),
            torch.randn(4, 3, 6, 5),
            {"dynamic": {"image": size}},
        ),
        "buffers and constants": (Buffers(), x),
        "half weights": (Half(torch.float16), x),
        "bfloat16 weights": (Half(torch.bfloat16), x),
        "a GRU in both directions": (Recurrent(), torch.randn(8, 6, 3)),
        "an autoencoder": (Autoencoder(), torch.randn(4, 1, 6, 6)),
        "a graph": (
            Graph(),
            (x, torch.tensor([[0, 1, 2], [3, 3, 0]])),
            {"unbatched": ["edges"], "dynamic": {"edges": {1: "edges"}}},
        ),
        "a branch by values": (Branch(), x),
    }
