"""What a spec requests of jobs on Vertex AI that they cannot have is refused by name, and nothing else is."""

from pathlib import Path

import pytest
from modelway.errors import InvalidSpec
from modelway.spec.load import load_spec
from spec_samples import write_model

KEY = "projects/p/locations/europe-west4/keyRings/k/cryptoKeys/c"
RESERVED = "projects/my-project/zones/europe-west4-b/reservations/r"


def load(folder: Path, *, own: str, train: str = "", evaluate: str = "") -> None:
    """Load a spec whose jobs are on Vertex AI."""
    text = (
        "model: digits\nstorage: {uri: 'gs://models/jobs'}\n"
        f"train: {{backend: vertex, {train}}}\nevaluate: {{{evaluate}}}\nvertex: {{region: europe-west4, {own}}}\n"
    )
    load_spec(write_model(folder, "digits", spec=text))


@pytest.mark.parametrize(
    "own",
    [
        "accelerator: NVIDIA_L4, strategy: FLEX_START, max_wait: 2h",
        "accelerator: NVIDIA_L4, machine_type: g2-standard-8",
        f"accelerator: NVIDIA_L4, kms_key: {KEY}, reservation: {RESERVED}",
        "accelerator: NVIDIA_L4, machine_type: g2-standard-8, persistent_resource: pool",
    ],
)
def test_what_is_trained_on_gpus_may_be_evaluated_without(tmp_path: Path, own: str) -> None:
    load(tmp_path, own=own, train="resources: {gpu: 1}", evaluate="resources: {cpu: 2, memory: 4Gi}, timeout: 9d")


@pytest.mark.parametrize(
    ("own", "train", "refused"),
    [
        ("accelerator: NVIDIA_L4", "", "vertex.accelerator: no job requests a GPU. Set resources.gpu, or remove it"),
        ("strategy: FLEX_START", "", "vertex.strategy: FLEX_START has machines with GPUs alone, and none is requested"),
        ("machine_type: g2-standard-8", "", "vertex.machine_type: .* has 1 GPU, and the job requests 0"),
        ("accelerator: nvidia-l4", "resources: {gpu: 1}", "accelerator: 'nvidia-l4' has another form. Write it as"),
        (
            "accelerator: NVIDIA_TESLA_T4, strategy: FLEX_START",
            "resources: {gpu: 1}",
            "vertex.strategy: FLEX_START has no machines with NVIDIA_TESLA_T4. Known: NVIDIA_L4",
        ),
        ("strategy: SPOT, max_wait: 2h", "", "max_wait: a job of the strategy SPOT does not wait for machines"),
        (f"strategy: SPOT, reservation: {RESERVED}", "", "reservation: machines of a reservation are not SPOT"),
        ("persistent_resource: pool", "", "persistent_resource: .* machines of one of its pools. Set machine_type"),
        (
            f"kms_key: {KEY.replace('west4', 'west1')}",
            "",
            "kms_key: it is in europe-west1, and the region is europe-west4. Name one in europe-west4",
        ),
        (
            f"reservation: {RESERVED.replace('west4', 'west1')}",
            "",
            "reservation: it is in europe-west1, and the region is europe-west4",
        ),
        ("reservation: r", "", "reservation: 'r' has another form. Write projects/P/zones/Z/reservations/NAME"),
        ("labels: {Team: vision}", "", "labels.Team: has characters that a label cannot have"),
        ("disk_type: ssd", "", "vertex.disk_type: 'ssd'"),
    ],
)
def test_what_a_job_cannot_have_is_refused_by_name(tmp_path: Path, own: str, train: str, refused: str) -> None:
    with pytest.raises(InvalidSpec, match=refused):
        load(tmp_path, own=own, train=train)
