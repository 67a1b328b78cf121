"""How a predictor's model comes into its pods: decided by its image and by what the cluster can do."""

from modelway.endpoints.base import EndpointSpec, Login, Predictor
from modelway.endpoints.kubernetes.desired import IMAGE_VOLUME_SINCE, How
from modelway.endpoints.kubernetes.record import Record
from modelway.endpoints.kubernetes.section import KubernetesEndpointSection
from modelway.errors import ImageInvalid
from modelway.oci.images import open_source, this_architecture
from modelway.oci.manifest import RegistryReference, parse_reference, read_image

_SERVER = "modelway.server"


def choose_mounts(
    spec: EndpointSpec,
    own: KubernetesEndpointSection,
    *,
    before: Record | None,
    version: tuple[int, int],
    login: Login | None,
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
    if mounted != "image":
        # Of another engine, which had image volumes.
        known = {image: mounted if how == "image" else how for image, how in known.items()}
    for each in spec.predictors:
        reference = _reference(each, where=f"endpoint {spec.name}")
        if own.mount != "auto":
            mounts[each.name] = own.mount
        elif each.image in known:
            mounts[each.name] = known[each.image]
        else:
            mounts[each.name] = _program(reference, login, insecure=own.insecure_registry) or mounted
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


def _program(reference: RegistryReference, login: Login | None, *, insecure: bool) -> How | None:
    """Return whose program an image has that serves its model; None where it has none."""
    known = login is not None and login.opens(str(reference))
    name, word = (login.username, login.password) if login and known else (None, None)
    with open_source(reference=reference, username=name, password=word, insecure=insecure) as source:
        config = read_image(source, reference.digest, architecture=this_architecture()).config.get("config") or {}
    program = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if not program:
        return None
    return "none" if _SERVER in program else "foreign"
