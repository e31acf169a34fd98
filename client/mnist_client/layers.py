"""Layers as a short text and as the wire has them: 20C5-P-40C5-P-150-D0.5.

From the input's side, apart by hyphens: 20C5 is a convolution of 20 features with kernels of 5 x 5, P a
pooling of 2 x 2, 150 as many neurons, D0.5 dropout of half of what is before it.
"""

import re
from collections.abc import Iterable

from mnist_client.errors import InvalidInput
from mnist_proto.v1 import training_pb2 as pb

_CONVOLUTION = re.compile(r"(\d{1,9})C(\d{1,9})")
_DENSE = re.compile(r"\d{1,9}")
_DROPOUT = re.compile(r"D(\d*\.?\d+)")


def parse_layers(text: str) -> list[pb.Layer]:
    """Returns the layers that a text names. Raises InvalidInput; the server says whether they fit."""
    return [_layer(word, text) for word in text.strip().upper().split("-")]


def layers_text(layers: Iterable[pb.Layer]) -> str:
    """Returns the text that names these layers; '' for none."""
    return "-".join(map(_word, layers))


def _layer(word: str, text: str) -> pb.Layer:
    if found := _CONVOLUTION.fullmatch(word):
        features, size = map(int, found.groups())
        return pb.Layer(convolution=pb.ConvolutionLayer(features=features, size=size))
    if _DENSE.fullmatch(word):
        return pb.Layer(dense=pb.DenseLayer(neurons=int(word)))
    if found := _DROPOUT.fullmatch(word):
        return pb.Layer(dropout=pb.DropoutLayer(rate=float(found[1])))
    if word == "P":
        return pb.Layer(max_pool=pb.MaxPoolLayer())
    raise InvalidInput.of("layers", repr(text), "layers such as 20C5-P-40C5-P-150-D0.5")


def _word(layer: pb.Layer) -> str:
    match layer.WhichOneof("layer"):
        case "convolution":
            return f"{layer.convolution.features}C{layer.convolution.size}"
        case "dense":
            return str(layer.dense.neurons)
        case "dropout":
            return "D" + f"{layer.dropout.rate:.9f}".rstrip("0").rstrip(".")
        case "max_pool":
            return "P"
    return "?"  # of a newer server
