"""How a predictor's model comes into its pods: decided by its image and by what the cluster can do."""

from modelway.endpoints.base import EndpointSpec, Predictor
from modelway.endpoints.kubernetes.desired import IMAGE_VOLUME_SINCE, How
from modelway.endpoints.kubernetes.record import Record
from modelway.endpoints.kubernetes.section import KubernetesEndpointSection
from modelway.errors import ImageInvalid
from modelway.oci.images import open_source
from modelway.oci.manifest import RegistryReference, parse_reference


def choose_mounts(
    spec: EndpointSpec,
    own: KubernetesEndpointSection,
    *,
    before: Record | None,
    version: tuple[int, int],
    username: str | None,
    password: str | None,
) -> dict[str, How]:
    """Return for each predictor whether its image runs by itself (none), or how the model comes out of it.

    :param before: what was chosen for the same images stays
    :raises ImageInvalid: a reference is by no digest, or of no registry
    :raises RegistryError: the registry does not say what the image is
    """
    known: dict[str, How] = {}
    if before is not None and before.spec.platform.get("mount", "auto") == own.mount:
        known = {each.image: before.mounts[each.name] for each in before.spec.predictors}
    mounts: dict[str, How] = {}
    mounted: How = "image" if version >= IMAGE_VOLUME_SINCE and own.engine != "kubedl" else "loader"
    for each in spec.predictors:
        reference = _reference(each, where=f"endpoint {spec.name}")
        if own.mount != "auto":
            mounts[each.name] = own.mount
        elif each.image in known:
            mounts[each.name] = known[each.image]
        else:
            runs = _has_program(reference, username=username, password=password)
            mounts[each.name] = "none" if runs else mounted
    return mounts


def _reference(predictor: Predictor, *, where: str) -> RegistryReference:
    reference = parse_reference(predictor.image)
    if not isinstance(reference, RegistryReference):
        raise ImageInvalid(
            f"the image of version {predictor.version} is in a folder, where no node of a cluster finds it",
            where=where,
            do="Push images to a registry: image.repository in the model spec",
        )
    return reference


def _has_program(reference: RegistryReference, *, username: str | None, password: str | None) -> bool:
    """Whether an image has a program of its own, which serves its model."""
    from modelway.oci.manifest import read_image

    with open_source(reference=reference, username=username, password=password) as source:
        config = read_image(source, reference.digest).config.get("config") or {}
    return bool(config.get("Entrypoint") or config.get("Cmd"))
