"""Model folders that the spec and command tests write."""

from pathlib import Path

GOOD_CODE = "def train(job): ...\ndef evaluate(job, checkpoint): ...\ndef export(job, checkpoint): ...\n"

FULL = """\
model: digits                       # must equal the folder name
description: Handwritten digits, a small CNN
owner: vision-team
tags: [demo]
code: net.py
retries: 3
train:
  backend: local
  seed: 7
  params: {batch_size: 64, lr: 0.1}
  resources: {cpu: 1, memory: 2Gi, gpu: 0}
  timeout: 2h
  stages:
    - name: warmup
      params: {epochs: 2, lr: 1e-2}
      timeout: 1h30m
    - name: finetune
      params: {epochs: 3}
      command: [python, train.py]
      resources: {cpu: 0.5}
evaluate: {parallel: 2, params: {batch_size: 256}, timeout: 10m, resources: {memory: 512Mi}}
select: {metric: loss, mode: min}
freeze: {format: onnx}
verify:
  tolerance: {absolute: 1e-5, relative: 1e-2}
  gates: {accuracy: ">= 0.9", "loss": "<1"}
image: {builder: oci, base: scratch, repository: registry.example.com:5000/models/digits, path: /opt/models}
endpoint: {target: local, host: 127.0.0.1, port: 8080}
rollout: {steps: [10, 50, 100], interval: 10s}
"""


def write_model(models: Path, name: str, *, spec: str | bytes | None = None, code: str | None = GOOD_CODE) -> Path:
    """Write ``models/name``, its spec (default: the shortest one) and, unless None, its Python; return the folder."""
    folder = models / name
    folder.mkdir(parents=True)
    text = f"model: {name}\n" if spec is None else spec
    (folder / "model.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    if code is not None:
        (folder / f"{name.replace('-', '_')}.py").write_text(code)
    return folder
