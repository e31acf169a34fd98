import pytest

from mnist_core import Augmentation, Convolution, Dense, Dropout, InvalidValue, MaxPool
from mnist_core.layer import Layer
from mnist_proto.v1 import training_pb2 as pb
from mnist_server.layers import (
    augmentation_from_wire,
    augmentation_to_wire,
    layers_from_wire,
    layers_to_wire,
)

LAYERS: list[Layer] = [Convolution(20, 5), MaxPool(), Dense(150), Dropout(0.5)]


def test_layers_go_there_and_back() -> None:
    wire = layers_to_wire(LAYERS)
    assert wire == [
        pb.Layer(convolution=pb.ConvolutionLayer(features=20, size=5)),
        pb.Layer(max_pool=pb.MaxPoolLayer()),
        pb.Layer(dense=pb.DenseLayer(neurons=150)),
        pb.Layer(dropout=pb.DropoutLayer(rate=0.5)),
    ]
    assert layers_from_wire(wire) == tuple(LAYERS)


def test_every_kind_of_the_contract_is_one_of_the_networks() -> None:
    kinds = [field.name for field in pb.Layer.DESCRIPTOR.oneofs_by_name["layer"].fields]
    assert sorted(kinds) == sorted(layer.kind for layer in LAYERS)


def test_an_empty_layer_and_too_many_are_refused() -> None:
    with pytest.raises(InvalidValue, match="one of dense, convolution, max_pool, dropout") as caught:
        layers_from_wire([*layers_to_wire(LAYERS), pb.Layer()])
    assert caught.value.field == "layers[4]"
    with pytest.raises(InvalidValue, match="1000000 layers") as caught:
        layers_from_wire([pb.Layer()] * 1_000_000)
    assert caught.value.field == "layers"


def test_augmentation_goes_there_and_back() -> None:
    asked = Augmentation(rotation=10, shift=1.5, elastic=24, elastic_sigma=5, thickness=0.25)
    wire = augmentation_to_wire(asked)
    assert wire is not None
    assert augmentation_from_wire(wire) == asked
    assert augmentation_to_wire(None) is None
    # Absent is the default of the one that has one, 0 for the others.
    assert augmentation_from_wire(pb.Augmentation(rotation=3)) == Augmentation(rotation=3, elastic_sigma=4)


def test_what_augmentation_cannot_be_is_named() -> None:
    with pytest.raises(InvalidValue) as caught:
        augmentation_from_wire(pb.Augmentation(elastic_sigma=0))
    assert caught.value.field == "augmentation.elastic_sigma"
