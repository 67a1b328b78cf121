"""What serves on this machine, as lines for a command that ends."""

from pathlib import Path


def serving_lines(root: Path) -> list[str]:
    """Return a line for each endpoint that goes on: where, and which versions answer.

    :param root: the folder of the endpoints
    """
    from modelway.endpoints.base import load_endpoint

    endpoint, lines = load_endpoint("local", root=root), []
    for folder in sorted(root.glob("*")):
        if (folder / "state.json").is_file() and (status := endpoint.status(folder.name)) and status.ready:
            weights = ", ".join(f"version {each.version} {each.weight} %" for each in status.predictors)
            lines.append(f"{folder.name} goes on serving at {status.url} ({weights})")
    return lines
