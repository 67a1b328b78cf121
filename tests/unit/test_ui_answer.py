"""Lists as JSON are what the slower way writes, whatever the records have."""

import json
import math
from datetime import UTC, datetime

from modelway.lineage.records.version import ImageRecord, ModelSummary, VersionSummary
from modelway.ui.answer import JsonAnswer, listed_models, listed_versions

NOW = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


def version(**changes: object) -> VersionSummary:
    fields: dict[str, object] = {
        "model": "m",
        "number": 1,
        "description": "",
        "created_at": NOW,
        "created_by": "mia",
        "dag_id": "m",
        "run_id": "r",
        "archive_uri": "file:///a",
        "archive_digest": "sha256:a",
        "archive_size": 2**40,
        "model_digest": "sha256:b",
        "checkpoint": "c",
        "checkpoint_digest": "sha256:c",
        "checkpoint_uri": None,
        "metrics": {"loss": math.nan, "best": -math.inf, "accuracy": 0.5, "none": None},
        "aliases": ("champion",),
        "image": ImageRecord(digest="sha256:d", reference="r", builder="oci", created_at=NOW),
        "weights": {"m": 100},
        "verification": {"rows": 3, "differs": math.inf},
    }
    return VersionSummary(**fields | changes)  # type: ignore[arg-type]


def test_a_list_of_versions_is_written_as_their_records_are() -> None:
    found = [version(), version(metrics={}, image=None, verification=None)]
    fast = json.loads(listed_versions("m", found, before=7).body)
    assert fast == json.loads(JsonAnswer({"model": "m", "versions": found, "before": 7}).body)
    assert fast["versions"][0]["metrics"] == {"loss": "NaN", "best": "-Infinity", "accuracy": 0.5, "none": None}


def test_a_list_of_models_is_written_as_their_records_are() -> None:
    model = ModelSummary(
        name="m", description="<ü>", created_at=NOW, latest=2, count=2, dags=("m",), aliases={"champion": 1}
    )
    assert json.loads(listed_models([model]).body) == json.loads(JsonAnswer({"models": [model]}).body)


def test_numbers_and_texts_that_json_hardly_knows_are_written() -> None:
    assert json.loads(JsonAnswer({"seed": 2**70}).body) == {"seed": 2**70}
    found = json.loads(listed_versions("m", [version(description="half \ud800", archive_size=2**70)]).body)
    assert found["versions"][0]["archive_size"] == 2**70
