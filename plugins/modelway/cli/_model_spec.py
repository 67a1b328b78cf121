"""The spec of the model that a command is about."""

from typing import TYPE_CHECKING

from modelway.errors import UnknownModel

if TYPE_CHECKING:
    from modelway.spec.model import ModelSpec


def model_spec(model: str) -> "ModelSpec":
    """Return a model's spec; the mistakes of other models do not matter.

    :raises InvalidSpec: it has mistakes, or ``MODELWAY_ENV`` is an environment of no model
    :raises UnknownModel: there is no such model
    """
    from modelway.spec.load import load_specs, models_folder
    from modelway.spec.problems import invalid_spec

    folder = models_folder()
    loaded = load_specs(folder)
    # A wrong environment is a problem of the folder: without its values the model would be another one.
    of_all = [problem for problem in loaded.problems if problem.file == folder.absolute()]
    own = [] if model in loaded.specs else [each for each in loaded.problems if each.file.parent.name == model]
    if of_all or own:
        raise invalid_spec([*of_all, *own])
    if model not in loaded.specs:
        raise UnknownModel(f"there is no model '{model}'", where=str(folder), known=loaded.specs, given=model)
    return loaded.specs[model]
