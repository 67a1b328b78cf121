"""bench/train: it says so where there is no GPU, and counts what it should; tests/contract/test_benches.py runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "train"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def bench(*words, **variables):
    done = subprocess.run(
        [sys.executable, str(BENCH / "run.py"), *words],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_without_a_gpu_it_is_skipped_with_the_reason():
    assert bench(CUDA_VISIBLE_DEVICES="") == {"skipped": "there is no NVIDIA GPU that torch can use"}


def test_the_contracts_training_reports_its_progress_at_each_step(tmp_path):
    from run import as_job

    small = {"small": True, "steps": 2, "warmup": 3, "log_every": 1, "compile": False, "bf16": False}
    as_job(tmp_path, {"workload": "transformer", "device": "cpu", "digits": "", **small})
    progress = json.loads((tmp_path / "job" / "progress.json").read_text())
    assert (progress["step"], progress["total"]) == (5, 5)
    assert progress["examples_per_second"] > 0


@pytest.mark.parametrize(
    ("gpu", "steps", "whole", "status"),
    [("NVIDIA H200", 1.01, 1.01, 0), ("NVIDIA H200", 1.02, 1.0, 1), ("NVIDIA H200", 1.0, 1.02, 1), (None, 2.0, 2.0, 0)],
)
def test_a_gpus_training_above_the_target_fails_the_bench(gpu, steps, whole, status):
    from run import exit_status, overheads

    script = {"steps_seconds": 1.0, "whole_seconds": 1.0, "last_loss": 0.0}
    contract = {"steps_seconds": steps, "whole_seconds": whole, "last_loss": 0.0}
    measured = overheads([{"script": script, "contract": contract}])
    assert exit_status([{"gpu": gpu, **measured}]) == status


def test_the_operations_are_those_that_torch_counts():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    from workload import transformer

    work = transformer({"small": True}, "cpu")
    # The fused attention of a CPU is not counted, plain matrix products are.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted:
        work["loss"](work["net"], 1).backward()
    assert work["examples"] == 4 * 64
    assert counted.get_total_flops() == pytest.approx(work["flop_per_step"], rel=0.02)


@pytest.mark.parametrize(
    ("device", "peak"),
    [
        ("NVIDIA H200", 989.5e12),
        ("NVIDIA H200 NVL", 835.5e12),
        ("NVIDIA H100 80GB HBM3", 989.5e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", None),
        (None, None),
    ],
)
def test_a_device_has_the_peak_of_its_data_sheet(device, peak):
    from peaks import peak_of

    found, source = peak_of(device)
    assert found == peak
    assert ("data sheet" in source) or device is None
