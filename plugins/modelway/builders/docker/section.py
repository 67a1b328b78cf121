"""The section ``image.docker`` of a model spec."""

from pydantic import Field

from modelway.fields.section import Section
from modelway.fields.values import Text


class DockerSection(Section):
    """The Dockerfile of the base image; a Docker engine with BuildKit builds it, `DOCKER_HOST` says which."""

    dockerfile: Text = Field(default="Dockerfile", description="Its path in the model's folder, which is the context")
    arguments: dict[Text, Text] = Field(
        default_factory=dict,
        description="Values of its ARG; BASE is image.base unless that is scratch",
    )
