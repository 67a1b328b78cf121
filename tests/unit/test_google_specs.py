"""What Google's endpoint targets cannot serve is refused when a spec is checked, and nothing else is."""

import re
from pathlib import Path

import pytest
from modelway.errors import InvalidSpec
from modelway.spec.load import load_spec
from spec_samples import write_model

KEY = "projects/p/locations/europe-west1/keyRings/k/cryptoKeys/c"


@pytest.mark.parametrize(
    ("endpoint", "refused"),
    [
        ("{target: cloud_run}", "target: cloud_run needs a region"),
        ("{target: vertex, vertex: {machine_type: g2-standard-4}}", "vertex: vertex needs a region"),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1}, replicas: 3}",
            "replicas: Cloud Run chooses the number of inst",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1}, mirror: {}}",
            "mirror: Cloud Run sends a request to one",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1}, sticky: {cookie: who}}",
            "sticky: Cloud Run splits requests",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1}, resources: {cpu: 3}}",
            "no instance with 3 CPUs. Write 1, 2, 4",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1}, resources: {gpu: 2}}",
            "an instance of Cloud Run has one GPU",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1}, resources: {cpu: 1, memory: 8Gi}}",
            "resources.memory: Cloud Run has no instance with 1 CPUs and 8Gi of memory",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1}, "
            "predictors: [{name: a, version: '1', weight: 100000}]}",
            "target: its share is 0.1 %|weight: its share is 0.1 %",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1, answer_within: 2h}}",
            "answer_within: Cloud Run ends .* 1h or",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1, answer_within: 61m}}",
            "vertex.answer_within: Vertex AI ends .* 1h or",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1, ready_within: 3h}}",
            "vertex.ready_within: .* 2h. Write 2h or less",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1}, resources: {cpu: 2}}",
            "whole machines. .*machine_type: n1-standard-4",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1}, resources: {gpu: 1}}",
            "resources.gpu: Vertex AI needs the type",
        ),
        ("{target: cloud_run, cloud_run: {region: Paris}}", "cloud_run.region: 'Paris' has another form. Write a reg"),
        ("{target: vertex, vertex: {region: europe-west1, project: P1}}", "vertex.project: 'P1' has another form"),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1, service_account: run}}",
            "service_account: 'run' has another form. Write its e-mail address",
        ),
        ("{target: cloud_run, cloud_run: {region: europe-west1, labels: {Team: a}}}", "labels.Team: has characters"),
        (
            "{target: vertex, vertex: {region: europe-west1, labels: {managed-by: me}}}",
            "labels.managed-by: labels that begin with managed-by are modelway's own",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1, accelerator: NVIDIA_L4}, resources: {gpu: 1}}",
            "accelerator: 'NVIDIA_L4' has another form. Write it as Cloud Run does, such as nvidia-l4",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1, min_instances: 9, max_instances: 3}}",
            "min_instances: at least 9 instances, and at most 3. Write 3 or less",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1, concurrency: 8}, resources: {cpu: 0.5}}",
            "concurrency: an instance with less than 1 CPU gets one request at a time. Write concurrency: 1",
        ),
        (
            "{target: cloud_run, cloud_run: {region: europe-west1, cpu_always: true}, resources: {cpu: 0.5}}",
            "cpu_always: an instance with less than 1 CPU has it during requests alone",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1, "
            "kms_key: projects/p/locations/us/keyRings/k/cryptoKeys/c}}",
            "kms_key: it is in us, and the region is europe-west1. Name one in europe-west1",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1, accelerator: NVIDIA_L4}, resources: {gpu: 1}}",
            "n1-standard-2 cannot have 1 GPU of the model NVIDIA_L4. Write vertex: {machine_type: g2-standard-4}",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1, accelerator: NVIDIA_L4, machine_type: g2-standard-4}, "
            "resources: {gpu: 2}}",
            "g2-standard-4 has 1 GPU of the model NVIDIA_L4, not 2 of NVIDIA_L4. Write .*machine_type: g2-standard-24",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1, accelerator: nvidia-l4}, resources: {gpu: 1}}",
            "accelerator: 'nvidia-l4' has another form. Write it as Vertex AI does, such as NVIDIA_L4",
        ),
        (
            "{target: vertex, vertex: {region: europe-west1, image_repository: us-docker.pkg.dev/my-prod/models}}",
            "Vertex AI in europe-west1 takes no image from us. Write .*europe-west1-docker.pkg.dev/PROJECT/REPOSITORY",
        ),
    ],
)
def test_what_a_target_cannot_do_is_refused_by_name(tmp_path: Path, endpoint: str, refused: str) -> None:
    text = f"model: digits\nimage: {{base: server}}\nendpoint: {endpoint}\n"
    with pytest.raises(InvalidSpec, match=refused):
        load_spec(write_model(tmp_path, "digits", spec=text))


@pytest.mark.parametrize(
    "endpoint",
    [
        "{target: vertex, vertex: {region: r-a1, accelerator: NVIDIA_L4, machine_type: g2-standard-4}, "
        "resources: {gpu: 1}}",
        "{target: vertex, vertex: {region: r-a1, accelerator: NVIDIA_TESLA_T4}, resources: {gpu: 1}}",
        "{target: vertex, vertex: {region: r-a1, accelerator: NVIDIA_X9, machine_type: z9-gpu-1}, resources: {gpu: 1}}",
        "{target: vertex, vertex: {region: r-a1, image_repository: r-a1-docker.pkg.dev/my-prod/models}}",
        "{target: vertex, vertex: {region: r-a1, image_repository: registry.example/models}}",
        "{target: vertex, vertex: {region: r-a1, project: '123456789012', labels: {team: '', a-b_1: x}}}",
        f"{{target: vertex, vertex: {{region: europe-west1, project: 'example.com:my-project', kms_key: {KEY}}}}}",
        "{target: cloud_run, cloud_run: {region: r-a1, concurrency: 1}, resources: {cpu: 0.5}}",
        # What environments have in common is above them.
        "{target: cloud_run, cloud_run: {region: r-a1}, environments: {dev: {cloud_run: {project: my-dev}}, prod: {}}}",
    ],
)
def test_what_a_target_can_do_is_not_refused(tmp_path: Path, endpoint: str) -> None:
    load_spec(write_model(tmp_path, "digits", spec=f"model: digits\nimage: {{base: server}}\nendpoint: {endpoint}\n"))


@pytest.mark.parametrize(("page", "word"), [("endpoints.md", "cloud_run"), ("vertex.md", "vertex")])
def test_the_examples_of_the_pages_are_accepted(tmp_path: Path, page: str, word: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    examples = [each for each in re.findall(r"```yaml\n(.*?)```", text, re.S) if f"{word}:" in each]
    assert examples
    for number, example in enumerate(examples):
        load_spec(write_model(tmp_path, f"m{number}", spec=f"model: m{number}\n{example}"))
