"""How a version of an asset differs from another one."""

from modelway.lineage.records.assets import AssetDetail, AssetDiff


def asset_difference(before: AssetDetail, after: AssetDetail) -> AssetDiff:
    """Return how ``after`` differs from ``before``."""
    old, new = ({file.path: file for file in detail.files} for detail in (before, after))
    was, becomes = ({each.name: each for each in detail.references} for detail in (before, after))
    both = [(old[path], new[path]) for path in sorted(old.keys() & new.keys())]
    return AssetDiff(
        added=tuple(new[path] for path in sorted(new.keys() - old.keys())),
        removed=tuple(old[path] for path in sorted(old.keys() - new.keys())),
        changed=tuple((one, other) for one, other in both if one.digest != other.digest),
        same=sum(one.digest == other.digest for one, other in both),
        references=tuple(
            (name, was.get(name), becomes.get(name))
            for name in sorted(was.keys() | becomes.keys())
            if was.get(name) != becomes.get(name)
        ),
    )
