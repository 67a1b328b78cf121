"""The command that runs a job's code: one process, or several of one or more machines through torchrun."""

from __future__ import annotations

from pathlib import Path

#: a file in an attempt's folder that reserves space for its exit report, for when the device is full
RESERVE = "reserve"


def command(
    *,
    python: str,
    folder: Path,
    node: int = 0,
    nodes: int = 1,
    processes: int = 1,
    rendezvous: str | None = None,
) -> list[str]:
    """Return the command that starts the job in ``folder`` on this machine.

    :param rendezvous: ``host:port`` of the machine with the number 0; None: there is only one machine
    """
    if nodes * processes == 1:
        return [python, "-m", "modelway.job", str(folder)]
    host, _, port = (rendezvous or "").rpartition(":")
    several = [python, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--max-restarts", "0"]
    # Ranks follow from the machine's number, so that an attempt's rank 0 is where its log says it is.
    place = (
        ["--nnodes", str(nodes), "--node-rank", str(node), "--master-addr", host, "--master-port", port]
        if nodes > 1
        else ["--standalone", "--local-addr", "127.0.0.1"]
    )
    return [*several, *place, "-m", "modelway.job", str(folder)]
