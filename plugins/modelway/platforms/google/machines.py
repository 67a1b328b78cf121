"""The machine types of Vertex AI, which GPUs they have, and the smallest that has what a job needs.

Sources, as read in November 2026: Vertex AI, "Configure compute resources for training" (which types it takes, and how
many GPUs of a model an n1 may have); Compute Engine, "General-purpose machine family", "Memory-optimized machine
family" and "GPU machine types" (cores and memory of each). Sizes are in GiB. Which types a region has, and what of them
is free, only Vertex AI knows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelway.errors import CapabilityMissing

GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine type."""

    name: str
    cores: int
    gib: float
    accelerator: str | None = None
    """the GPUs that it always has"""
    gpus: int = 0

    def fits(self, *, cpu: float | None, memory_bytes: int | None) -> bool:
        """Whether it has so much."""
        return (cpu or 0) <= self.cores and (memory_bytes or 0) <= self.gib * GIB


def _family(name: str, gib_per_core: float, *cores: int) -> tuple[Machine, ...]:
    return tuple(Machine(name=f"{name}-{count}", cores=count, gib=count * gib_per_core) for count in cores)


GENERAL = (
    *_family("e2-standard", 4, 4, 8, 16, 32),
    *_family("e2-highmem", 8, 2, 4, 8, 16),
    *_family("e2-highcpu", 1, 16, 32),
    *_family("n2-standard", 4, 4, 8, 16, 32, 48, 64, 80),
    *_family("n2-highmem", 8, 2, 4, 8, 16, 32, 48, 64, 80),
    *_family("n2-highcpu", 1, 16, 32, 48, 64, 80),
    *_family("n1-standard", 3.75, 4, 8, 16, 32, 64, 96),
    *_family("n1-highmem", 6.5, 2, 4, 8, 16, 32, 64, 96),
    *_family("n1-highcpu", 0.9, 16, 32, 64, 96),
    *_family("c2-standard", 4, 4, 8, 16, 30, 60),
    Machine(name="m1-megamem-96", cores=96, gib=1433.6),
    Machine(name="m1-ultramem-40", cores=40, gib=961),
    Machine(name="m1-ultramem-80", cores=80, gib=1922),
    Machine(name="m1-ultramem-160", cores=160, gib=3844),
)


def _with(accelerator: str, *machines: tuple[str, int, float, int]) -> tuple[Machine, ...]:
    return tuple(
        Machine(name=name, cores=cores, gib=gib, accelerator=accelerator, gpus=gpus)
        for name, cores, gib, gpus in machines
    )


#: GPUs are part of these
WITH_GPUS = (
    *_with("NVIDIA_L4", ("g2-standard-4", 4, 16, 1), ("g2-standard-8", 8, 32, 1), ("g2-standard-12", 12, 48, 1)),
    *_with("NVIDIA_L4", ("g2-standard-16", 16, 64, 1), ("g2-standard-32", 32, 128, 1)),
    *_with("NVIDIA_L4", ("g2-standard-24", 24, 96, 2), ("g2-standard-48", 48, 192, 4), ("g2-standard-96", 96, 384, 8)),
    *_with("NVIDIA_TESLA_A100", ("a2-highgpu-1g", 12, 85, 1), ("a2-highgpu-2g", 24, 170, 2)),
    *_with("NVIDIA_TESLA_A100", ("a2-highgpu-4g", 48, 340, 4), ("a2-highgpu-8g", 96, 680, 8)),
    *_with("NVIDIA_TESLA_A100", ("a2-megagpu-16g", 96, 1360, 16)),
    *_with("NVIDIA_A100_80GB", ("a2-ultragpu-1g", 12, 170, 1), ("a2-ultragpu-2g", 24, 340, 2)),
    *_with("NVIDIA_A100_80GB", ("a2-ultragpu-4g", 48, 680, 4), ("a2-ultragpu-8g", 96, 1360, 8)),
    *_with("NVIDIA_H100_80GB", ("a3-highgpu-1g", 26, 234, 1), ("a3-highgpu-2g", 52, 468, 2)),
    *_with("NVIDIA_H100_80GB", ("a3-highgpu-4g", 104, 936, 4), ("a3-highgpu-8g", 208, 1872, 8)),
    *_with("NVIDIA_H100_MEGA_80GB", ("a3-megagpu-8g", 208, 1872, 8)),
    *_with("NVIDIA_H200_141GB", ("a3-ultragpu-8g", 224, 2952, 8)),
    *_with("NVIDIA_B200", ("a4-highgpu-8g", 224, 3968, 8)),
    *_with("NVIDIA_GB200", ("a4x-highgpu-4g", 140, 884, 4)),
    *_with("NVIDIA_RTX_PRO_6000", ("g4-standard-48", 48, 180, 1), ("g4-standard-96", 96, 360, 2)),
    *_with("NVIDIA_RTX_PRO_6000", ("g4-standard-192", 192, 720, 4), ("g4-standard-384", 384, 1440, 8)),
)

#: GPUs that an n1 gets: so many of them, on machines of at most so many cores
ATTACHED: dict[str, dict[int, int]] = {
    "NVIDIA_TESLA_T4": {1: 48, 2: 48, 4: 96},
    "NVIDIA_TESLA_P4": {1: 24, 2: 48, 4: 96},
    "NVIDIA_TESLA_V100": {1: 12, 2: 24, 4: 48, 8: 96},
    "NVIDIA_TESLA_P100": {1: 16, 2: 32, 4: 96},
}
#: what a core of a family costs, about, where one of e2 costs 1
_COSTS = {"e2": 1.0, "n1": 1.4, "n2": 1.45, "c2": 1.55, "m1": 2.0}
ACCELERATORS = (*ATTACHED, *dict.fromkeys(machine.accelerator or "" for machine in WITH_GPUS))
MOST_CORES = max(machine.cores for machine in (*GENERAL, *WITH_GPUS))
MOST_GPUS = max(machine.gpus for machine in WITH_GPUS)
_BY_NAME = {machine.name: machine for machine in (*GENERAL, *WITH_GPUS)}


@dataclass(frozen=True, kw_only=True)
class MachineSpec:
    """A machine type with its GPUs, as a request has them."""

    machine_type: str
    accelerator: str | None = None
    gpus: int = 0


def gpus_of(machine_type: str) -> int | None:
    """Return how many GPUs a machine type always has; None where it is newer than this table."""
    machine = _BY_NAME.get(machine_type)
    return None if machine is None else machine.gpus


def machine_for(
    *,
    cpu: float | None,
    memory_bytes: int | None,
    gpu: int,
    machine_type: str | None = None,
    accelerator: str | None = None,
) -> MachineSpec:
    """Return the machine of a job: the one that is named, else the smallest that has what the job needs.

    :raises CapabilityMissing: there is none, or the named one has less
    """
    if cpu and cpu > MOST_CORES:
        what = f"{cpu:g} CPU cores requested, the backend 'vertex' has machines of at most {MOST_CORES}"
        raise CapabilityMissing(what, do=f"Set resources.cpu to at most {MOST_CORES}")
    if gpu > MOST_GPUS:
        what = f"{gpu} GPU requested, the backend 'vertex' has machines of at most {MOST_GPUS}"
        raise CapabilityMissing(what, do="Request fewer of each node, and more nodes")
    if machine_type is not None and (found := _named(machine_type, cpu, memory_bytes, gpu, accelerator)):
        return found
    if machine_type is not None:
        # Newer than this table: Vertex AI says whether it has it.
        if gpu:
            _check_named(accelerator, gpu)
        return MachineSpec(machine_type=machine_type, accelerator=accelerator if gpu else None, gpus=gpu)
    if gpu:
        return _with_gpus(gpu, accelerator, cpu, memory_bytes)
    if accelerator:
        raise CapabilityMissing(
            f"{accelerator} requested, and no GPU", do="Set resources.gpu, or remove the accelerator"
        )
    fitting = [each for each in GENERAL if each.fits(cpu=cpu, memory_bytes=memory_bytes)]
    if not fitting:
        raise _too_much(cpu, memory_bytes, GENERAL)
    return MachineSpec(machine_type=_smallest(fitting).name)


def refused_gpus(machine_type: str, *, gpu: int, accelerator: str | None) -> str | None:
    """Return why a machine type cannot have these GPUs; None where it can, or is newer than this table.

    :param accelerator: their model; None where there is none
    """
    machine = _BY_NAME.get(machine_type)
    if machine is not None and machine.accelerator:
        if gpu and (machine.gpus, machine.accelerator) != (gpu, accelerator):
            return (
                f"{machine_type} has {machine.gpus} GPU of the model {machine.accelerator}, not {gpu} of {accelerator}"
            )
        return None
    most = ATTACHED.get(accelerator or "", {}).get(gpu)
    if gpu and machine_type.startswith("n1-"):
        cores = int(machine_type.rpartition("-")[2]) if machine_type.rpartition("-")[2].isdigit() else 0
        return None if most and cores <= most else f"{machine_type} cannot have {gpu} GPU of the model {accelerator}"
    if gpu and machine is not None:
        return f"{machine_type} has no GPU"
    return None


def machines_with(gpu: int, accelerator: str | None) -> list[str]:
    """Return the machine types that have these GPUs, the smallest first."""
    return [each.name for each in _machines_with(accelerator or "", gpu)]


def _named(
    name: str, cpu: float | None, memory_bytes: int | None, gpu: int, accelerator: str | None
) -> MachineSpec | None:
    machine = _BY_NAME.get(name)
    if machine is None:
        return None
    if not machine.fits(cpu=cpu, memory_bytes=memory_bytes):
        what = f"the machine type {name} has {machine.cores} CPU cores and {machine.gib:g} GiB, the job needs"
        raise CapabilityMissing(f"{what} {_needs(cpu, memory_bytes)}", do="Name a larger one, or remove machine_type")
    if machine.accelerator:
        if accelerator not in (None, machine.accelerator):
            what = f"the machine type {name} has GPUs of the model {machine.accelerator}, not {accelerator}"
            raise CapabilityMissing(what, do="Remove accelerator, or machine_type")
        if gpu != machine.gpus:
            what = f"the machine type {name} has {machine.gpus} GPU, and the job requests {gpu}"
            raise CapabilityMissing(what, do=f"Set resources.gpu to {machine.gpus}, or remove machine_type")
        return MachineSpec(machine_type=name, accelerator=machine.accelerator, gpus=machine.gpus)
    if not gpu:
        return MachineSpec(machine_type=name)
    _check_named(accelerator, gpu)
    if not name.startswith("n1-") or machine.cores > ATTACHED.get(accelerator or "", {}).get(gpu, 0):
        what = f"the machine type {name} cannot have {gpu} GPU of the model {accelerator}"
        raise CapabilityMissing(what, do="Remove machine_type: the one that fits is chosen")
    return MachineSpec(machine_type=name, accelerator=accelerator, gpus=gpu)


def _check_named(accelerator: str | None, gpu: int) -> None:
    if accelerator is None:
        what = f"{gpu} GPU requested, and on Vertex AI a GPU has a model"
        raise CapabilityMissing(what, do="Set vertex.accelerator, such as NVIDIA_L4")


def _with_gpus(gpu: int, accelerator: str | None, cpu: float | None, memory_bytes: int | None) -> MachineSpec:
    _check_named(accelerator, gpu)
    if accelerator not in ACCELERATORS:
        what = f"the machine type for {accelerator} is not known here"
        raise CapabilityMissing(what, known=ACCELERATORS, given=accelerator, do="Set vertex.machine_type as well")
    machines = list(_machines_with(accelerator, gpu))
    counts = sorted(
        {*ATTACHED.get(accelerator, {}), *(one.gpus for one in WITH_GPUS if one.accelerator == accelerator)}
    )
    if not machines:
        what = f"{gpu} GPU requested, the backend 'vertex' has machines with {_any_of(counts)} of {accelerator}"
        raise CapabilityMissing(what, do="Set resources.gpu to one of these")
    fitting = [each for each in machines if each.fits(cpu=cpu, memory_bytes=memory_bytes)]
    if not fitting:
        raise _too_much(cpu, memory_bytes, machines)
    return MachineSpec(machine_type=_smallest(fitting).name, accelerator=accelerator, gpus=gpu)


def _machines_with(accelerator: str, gpu: int) -> Iterator[Machine]:
    most = ATTACHED.get(accelerator, {}).get(gpu, 0)
    yield from (each for each in GENERAL if each.name.startswith("n1-") and each.cores <= most)
    yield from (each for each in WITH_GPUS if (each.accelerator, each.gpus) == (accelerator, gpu))


def _smallest(machines: Sequence[Machine]) -> Machine:
    """Return the machine that costs the least, about: a core costs as much as eight GiB."""
    return min(machines, key=lambda each: _COSTS.get(each.name[:2], 1.0) * (each.cores + each.gib / 8))


def _too_much(cpu: float | None, memory_bytes: int | None, machines: Sequence[Machine]) -> CapabilityMissing:
    largest = max(machines, key=lambda each: each.gib)
    what = (
        f"no machine type has {_needs(cpu, memory_bytes)}: the largest, {largest.name}, has {largest.cores} CPU cores"
    )
    return CapabilityMissing(
        f"{what} and {largest.gib:g} GiB", do="Set resources to what one machine has, or use nodes"
    )


def _needs(cpu: float | None, memory_bytes: int | None) -> str:
    parts = [f"{cpu:g} CPU cores" if cpu else "", f"{memory_bytes / GIB:g} GiB of memory" if memory_bytes else ""]
    return " and ".join(filter(None, parts))


def _any_of(counts: Sequence[int]) -> str:
    return " or ".join(map(str, counts))
