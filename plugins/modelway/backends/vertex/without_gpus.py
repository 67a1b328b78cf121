"""What of the section ``vertex`` is for jobs that request no GPU, where others of the model do.

One section is all jobs' of a model, and its machines may have GPUs: a model that is trained on them is often evaluated
without. Such a job gets a machine by its ``resources``, of its own and at once, whatever machines the others wait for.
"""

from collections.abc import Mapping
from typing import Any

from modelway.platforms.google.machines import gpus_of

#: keys that choose machines with GPUs, as written and as read
_OF_GPUS = ("accelerator", "reservation", "persistent_resource", "max_wait", "max_wait_seconds")


def names_gpus(section: Mapping[str, Any]) -> bool:
    """Return whether the machines of a section have GPUs."""
    machine = section.get("machine_type")
    return bool(section.get("accelerator") or (isinstance(machine, str) and gpus_of(machine)))


def of_job(section: Mapping[str, Any], *, gpu: object) -> Mapping[str, Any]:
    """Return a section as it is for a job with so many GPUs: without any, it names no machines that have some."""
    if gpu or not names_gpus(section):
        return section
    kept = {key: value for key, value in section.items() if key not in _OF_GPUS}
    if section.get("strategy") == "FLEX_START":
        kept["strategy"] = "STANDARD"
    machine = section.get("machine_type")
    # One that is not known may have GPUs.
    if isinstance(machine, str) and gpus_of(machine) != 0:
        del kept["machine_type"]
    return kept
