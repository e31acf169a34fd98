"""A base model is a version whose weights a training begins with, in the place of drawn ones: fine-tuning."""

from dataclasses import dataclass, replace

from mnist_core import CheckpointError, InvalidValue, SavedModel, TrainingConfig, read_model
from mnist_server.errors import Corrupt
from mnist_server.names import model_name
from mnist_server.registry import ModelRegistry

# What a network is, whatever it is trained on: a base model's is the new one's too.
_NETWORK = ("hidden_sizes", "layers", "activation", "output", "dtype")


@dataclass(frozen=True)
class BaseModel:
    """One version, as it was trained."""

    name: str  # models/{m}/versions/{n}
    saved: SavedModel

    def config(self, asked: TrainingConfig, given: set[str]) -> TrainingConfig:
        """Returns a configuration for the base model's own network, all else as it was asked for.

        given: the fields that the caller has given; those of the network must say what it is. Raises
        InvalidValue.
        """
        own = self.saved.config
        values = {name: getattr(own, name) for name in _NETWORK}
        for name in given & set(_NETWORK):
            if getattr(asked, name) != values[name]:
                raise InvalidValue(name, getattr(asked, name), f"{values[name]}, as {self.name} has")
        return replace(asked, **values)


def load_base(registry: ModelRegistry, name: str) -> BaseModel:
    """Returns what a model's name stands for now. Raises InvalidValue, NotFound, or Corrupt."""
    path, version = registry.stored(model_name("config.base_model", name))
    try:
        return BaseModel(version.name, read_model(path))
    except CheckpointError as error:
        raise Corrupt(f"{version.name}: {error}") from error
