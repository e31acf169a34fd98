"""Hidden layers and augmentation, from the wire to the network's own words and back."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from mnist_core import InvalidValue
from mnist_core.augmentation import Augmentation
from mnist_core.layer import MAX_LAYERS, Convolution, Dense, Dropout, Layer, MaxPool, described
from mnist_proto.v1 import training_pb2 as pb

_KINDS: dict[str, type[Layer]] = {kind.kind: kind for kind in (Dense, Convolution, MaxPool, Dropout)}


def layers_from_wire(layers: Sequence[pb.Layer]) -> tuple[Layer, ...]:
    """Returns the network's layers, not yet judged. Raises InvalidValue for too many, or an empty one."""
    if len(layers) > MAX_LAYERS:
        raise InvalidValue("layers", f"{len(layers)} layers", f"at most {MAX_LAYERS} layers")
    found = []
    for index, layer in enumerate(layers):
        kind = layer.WhichOneof("layer")
        if kind is None:
            raise InvalidValue(f"layers[{index}]", "nothing", "one of " + ", ".join(_KINDS))
        message = getattr(layer, kind)
        values = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
        found.append(_KINDS[kind](**values))
    return tuple(found)


def layers_to_wire(layers: Iterable[Layer]) -> list[pb.Layer]:
    """Returns layers as the wire has them."""
    messages = []
    for layer in layers:
        message = pb.Layer()
        fields = described(layer)
        chosen = getattr(message, fields.pop("kind"))
        chosen.SetInParent()
        for name, value in fields.items():
            setattr(chosen, name, value)
        messages.append(message)
    return messages


def augmentation_from_wire(augmentation: pb.Augmentation) -> Augmentation:
    """Returns the network's own. Raises InvalidValue, naming the field."""
    values: dict[str, Any] = {field.name: value for field, value in augmentation.ListFields()}
    try:
        return Augmentation(**values)
    except InvalidValue as error:
        raise InvalidValue(f"augmentation.{error.field}", error.value, error.expected) from None


def augmentation_to_wire(augmentation: Augmentation | None) -> pb.Augmentation | None:
    """Returns an augmentation as the wire has it."""
    return None if augmentation is None else pb.Augmentation(**asdict(augmentation))
