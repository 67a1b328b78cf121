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
endpoint: {target: local, local: {host: 127.0.0.1, port: 8080}}
rollout: {steps: [10, 50, 100], interval: 10s}
"""

# Together with DEFAULTS each key of the sections that a run, a schedule and environments have.
RICH = """\
extends: ../defaults.yaml
model: digits
params:
  epochs: 4
  rate: {default: 0.1, minimum: 0, maximum: 1, description: Step size}
  optimizer: {default: adam, choices: [adam, sgd]}
  augment: true
datasets:
  images: s3://lake/images/{{ data_interval_start | ds }}/{{ params.optimizer }}
  labels:
    uri: /data/labels
    digest: sha256:0000000000000000000000000000000000000000000000000000000000000000
    version: "{{ partition }}"
schedule:
  cron: "0 3 * * *"
  timezone: Europe/Berlin
  start: 2026-01-31
  catchup: true
  assets: [s3://lake/images, labels]
  backfill: true
reuse: same-inputs
retry_delay: 1m
deadline: 6h
pool: gpus
max_active_runs: 2
train: {base: champion, params: {width: null}}
register: {alias: candidate}
image: {tag: "{version}-digits"}
rollout: {alias: production, when_worse: register}
monitor:
  retrain_on_event: true
  drift: {window: 2d, minimum_rows: 1000, psi: 0.25, ks: 0.2, w: 0.5, alpha: 0.001, schema: false}
  quality: {window: 14d, minimum_labels: 100, drop: 0.02, alpha: 0.001}
  volume: 100000
  staleness: 30d
  cool_down: 2d
  budget_per_week: 2
notifications:
  on_failure: [{notifier: airflow.providers.team.Mail, args: {to: a@b.example, subject: "{{ run_id }} failed"}}]
  on_success: []
  on_deadline: [{notifier: airflow.providers.team.Mail}]
  on_retraining: [{notifier: airflow.providers.team.Mail, args: {subject: "{{ modelway_message }}"}}]
environments:
  dev:
    schedule: null
    datasets: {images: /data/images, labels: {version: null, digest: null}}
    deadline: null
    notifications: null
    params: {epochs: {default: 1}}
  prod:
    train: {resources: {cpu: 4}, timeout: null}
    rollout: {steps: [1, 10, 100]}
"""
DEFAULTS = """\
owner: vision-team
retries: 5
train: {timeout: 2h, params: {width: 64, depth: 3}}
rollout: {steps: [50, 100], interval: 1m}
params: {epochs: {default: 3, minimum: 1}, shared: text}
environments:
  staging:
  prod: {retries: 9, train: {seed: 3}}
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
