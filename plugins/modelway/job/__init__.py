"""What runs inside a job: the contract between modelway and a model's own code. Standard library only."""

from modelway.job.contract import Checkpoint, Job, Stopped

__all__ = ["Checkpoint", "Job", "Stopped"]
