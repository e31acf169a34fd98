"""A checkpoint is a training's state as a file; a model file holds a finished network alone.

Both are safetensors: one flat array of parameters (and of what an optimizer keeps), beside text saying what
made it. No pickle anywhere: unpickling runs whatever code the file's author liked.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from mnist_core.activation import Array
from mnist_core.architecture import MAX_PARAMETERS
from mnist_core.calibration import LEAST, MOST
from mnist_core.configuration import TrainingConfig, check_class_names
from mnist_core.durable import write_file
from mnist_core.errors import CheckpointError, ChecksumError, InvalidValue
from mnist_core.network import Network
from mnist_core.self_check import self_check, self_check_answers
from mnist_core.training import TrainingState

_CHECKPOINT = "mnist-grpc checkpoint 1"
_MODEL = "mnist-grpc model 1"
_MAX_HEADER_BYTES = 2**20
_MAX_FILE_BYTES = 3 * 8 * MAX_PARAMETERS + _MAX_HEADER_BYTES
_DTYPES = {"F32": "float32", "F64": "float64"}


def save_checkpoint(
    path: Path, state: TrainingState, config: TrainingConfig, provenance: dict[str, str]
) -> None:
    """Writes all that going on needs, durably. provenance: what else made it (data set's hash, versions), at
    most some 1 MiB of text, or InvalidValue is raised. Raises OSError.
    """
    tensors = {"parameters": state.network.parameters}
    if state.velocity is not None:
        tensors["velocity"] = state.velocity
    if state.best_parameters is not None:
        tensors["best_parameters"] = state.best_parameters
    if state.moments is not None:
        tensors["moments"] = state.moments
    counts = {"epoch": state.epoch, "epochs_without_improvement": state.epochs_without_improvement}
    if state.best_correct is not None:
        counts["best_correct"] = state.best_correct
    if state.validation_total is not None:
        counts["validation_total"] = state.validation_total
    texts = {"state": json.dumps(counts), "rng": json.dumps(state.rng.bit_generator.state)}
    _write(path, _CHECKPOINT, tensors, texts | _describe(state.network, config, provenance))


def load_checkpoint(path: Path) -> tuple[TrainingState, TrainingConfig, dict[str, str]]:
    """Returns state, configuration and provenance. Raises CheckpointError."""
    tensors, texts = _read(path, _CHECKPOINT)
    try:
        network, config, provenance = _network(tensors, texts)
        bits = np.random.PCG64()
        bits.state = json.loads(texts["rng"])
        counts = {name: _count(value) for name, value in json.loads(texts["state"]).items()}
        shape = network.parameters.shape
        velocity = _beside(tensors, "velocity", shape, network) if config.momentum else None
        moments = _beside(tensors, "moments", (2, *shape), network) if config.optimizer == "adamw" else None
        best = _beside(tensors, "best_parameters", shape, network) if "best_parameters" in tensors else None
        state = TrainingState(
            network,
            velocity,
            np.random.Generator(bits),
            moments=moments,
            best_parameters=best,
            **counts,
        )
        return state, config, provenance
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(path, f"it does not describe a training: {_why(error)}") from error


@dataclass(frozen=True)
class SavedModel:
    """What a model file holds."""

    network: Network
    """Its parameters are read-only, and it has passed its self-check."""
    config: TrainingConfig
    provenance: dict[str, str]
    """What else made it."""
    height: int | None
    width: int | None
    """Of its images, in pixels; None where the file does not say."""
    temperature: float
    """What `calibrated` is to be given with the network; 1 where none was fitted."""
    class_names: tuple[str, ...]
    """C of them; none where the classes are called by their numbers."""


def save_model(
    path: Path,
    network: Network,
    config: TrainingConfig,
    provenance: dict[str, str],
    *,
    image: tuple[int, int] | None = None,
    temperature: float = 1.0,
    class_names: Sequence[str] = (),
) -> None:
    """Writes a network, durably, with how it was made and what it answers to its self-check.

    image: height and width of its images, whose product is its inputs; None leaves it unsaid.
    temperature: what was fitted for it; the network is the one that was trained, and so is its self-check.
    class_names: what the classes are called, if not by their numbers; C of them.

    Raises OSError, or InvalidValue for a network whose answers are not finite.
    """
    texts = _describe(network, config, provenance)
    if image is not None:
        texts |= _sized(image)
    if temperature != 1:
        texts["temperature"] = repr(temperature)
    if class_names:
        texts["class_names"] = json.dumps(list(class_names))
    texts["self_check"] = json.dumps(self_check_answers(network))
    _write(path, _MODEL, {"parameters": network.parameters}, texts)


def load_model(path: Path) -> tuple[Network, TrainingConfig, dict[str, str]]:
    """Returns the network, its parameters read-only, configuration and provenance, as `read_model` does."""
    saved = read_model(path)
    return saved.network, saved.config, saved.provenance


def read_model(path: Path) -> SavedModel:
    """Returns what a model file holds, once the network has passed the self-check that is in it.

    Raises CheckpointError; of that a ChecksumError where the content is not what was written.
    """
    tensors, texts = _read(path, _MODEL)
    try:
        if set(tensors) != {"parameters"}:
            raise InvalidValue("tensors", sorted(tensors), "`parameters` alone")
        network, config, provenance = _network(tensors, texts)
        height, width = _image(texts) or (None, None)
        temperature = _temperature(texts, network)
        class_names = tuple(json.loads(texts.get("class_names", "[]")))
        if class_names:
            check_class_names("class_names", class_names, config.classes)
        if "self_check" in texts:
            self_check(network, json.loads(texts["self_check"]))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CheckpointError(path, f"it does not describe a network: {_why(error)}") from error
    return SavedModel(network.freeze(), config, provenance, height, width, temperature, class_names)


def _describe(network: Network, config: TrainingConfig, provenance: dict[str, str]) -> dict[str, str]:
    texts = {
        "inputs": str(network.architecture.inputs),
        "config": json.dumps(config.to_dict()),
        "provenance": json.dumps(provenance),
    }
    for first in network.architecture.stages[:1]:  # kernels are laid on images, not on rows of pixels
        texts |= _sized((first.height, first.width))
    return texts


def _sized(image: tuple[int, int]) -> dict[str, str]:
    return {"height": str(image[0]), "width": str(image[1])}


def _network(
    tensors: dict[str, Array], texts: dict[str, str]
) -> tuple[Network, TrainingConfig, dict[str, str]]:
    config = TrainingConfig(**json.loads(texts["config"]))
    architecture = config.architecture(_image(texts) or (1, int(texts["inputs"])))
    parameters = tensors["parameters"]
    if parameters.dtype != config.dtype or not np.isfinite(parameters).all():
        raise InvalidValue("parameters", parameters, f"finite, of dtype {config.dtype}")
    # A copy: what was read may be read-only, and training writes in place.
    network = Network(architecture, config.activation, config.output, parameters.copy())
    provenance = json.loads(texts["provenance"])
    if not all(isinstance(text, str) for item in provenance.items() for text in item):
        raise InvalidValue("provenance", provenance, "texts by name")
    return network, config, provenance


def _image(texts: dict[str, str]) -> tuple[int, int] | None:
    if not {"height", "width"} & set(texts):
        return None
    height, width, inputs = int(texts["height"]), int(texts["width"]), int(texts["inputs"])
    if height < 1 or width < 1 or height * width != inputs:
        expected = f"two numbers whose product is {inputs}, the network's inputs"
        raise InvalidValue("height, width", (height, width), expected)
    return height, width


def _temperature(texts: dict[str, str], network: Network) -> float:
    temperature = float(texts.get("temperature", "1"))
    if not LEAST <= temperature <= MOST:
        raise InvalidValue("temperature", temperature, f"{LEAST} to {MOST}")
    if temperature != 1 and network.output != "softmax":
        raise InvalidValue("temperature", temperature, f"none with {network.output} outputs")
    return temperature


def _beside(tensors: dict[str, Array], name: str, shape: tuple[int, ...], network: Network) -> Array:
    found = tensors[name]
    if found.dtype != network.dtype or found.shape != shape:
        raise InvalidValue(name, found.shape, f"{network.dtype} {shape}")
    return found.copy()


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidValue("state", value, "an integer, at least 0")
    return value


def _write(path: Path, kind: str, tensors: dict[str, Array], texts: dict[str, str]) -> None:
    texts = {"format": kind} | texts
    texts["sha256"] = _digest(tensors, texts)
    data = safetensors.numpy.save(tensors, metadata=texts)
    if int.from_bytes(data[:8], "little") > _MAX_HEADER_BYTES:
        raise InvalidValue("provenance", texts["provenance"], f"less than {_MAX_HEADER_BYTES} bytes")
    write_file(path, data)


def _read(path: Path, kind: str) -> tuple[dict[str, Array], dict[str, str]]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > _MAX_FILE_BYTES:
                raise CheckpointError(path, f"it has {size} bytes, more than {_MAX_FILE_BYTES}")
            data = file.read(size)
    except OSError as error:
        raise CheckpointError(path, error.strerror or str(error)) from error
    header_bytes = int.from_bytes(data[:8], "little")
    if header_bytes > _MAX_HEADER_BYTES:
        raise CheckpointError(path, f"its header has {header_bytes} bytes, more than {_MAX_HEADER_BYTES}")
    try:
        # safetensors leaves it without types.
        found: list[tuple[str, dict[str, Any]]] = safetensors.deserialize(data)  # type: ignore[no-untyped-call]  # it has no types
        texts = json.loads(data[8 : 8 + header_bytes])["__metadata__"]
        tensors = {
            name: np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
            for name, tensor in found
        }
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(path, f"it is no safetensors file of ours: {error}") from error
    if texts.get("format") != kind:
        raise CheckpointError(path, f"it is {texts.get('format')!r}, not {kind!r}")
    if texts.pop("sha256", None) != _digest(tensors, texts):
        raise ChecksumError(path, "its checksum is not that of its content")
    return tensors, texts


def _digest(tensors: dict[str, Array], texts: dict[str, str]) -> str:
    """Returns the SHA-256 of all that a file says, tensors and texts, in an order of our own."""
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor.dtype.name, tensor.shape]).encode())
        digest.update(tensor.data)
    return digest.hexdigest()


def _why(error: Exception) -> str:
    if isinstance(error, InvalidValue):
        return str(error)
    return f"it has no {error}" if isinstance(error, KeyError) else repr(error)
