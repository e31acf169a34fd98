import pytest

from mnist_client import InvalidInput
from mnist_client.layers import layers_text, parse_layers
from mnist_proto.v1 import training_pb2 as pb


def test_a_text_names_layers_of_all_kinds() -> None:
    found = parse_layers(" 20c5-P-d0.25-150 ")
    assert found == [
        pb.Layer(convolution=pb.ConvolutionLayer(features=20, size=5)),
        pb.Layer(max_pool=pb.MaxPoolLayer()),
        pb.Layer(dropout=pb.DropoutLayer(rate=0.25)),
        pb.Layer(dense=pb.DenseLayer(neurons=150)),
    ]
    assert layers_text(found) == "20C5-P-D0.25-150"
    assert layers_text([]) == ""
    assert layers_text([pb.Layer()]) == "?"


@pytest.mark.parametrize("text", ["150", "20C5-P-40C5-P-150-D0.5", "1-D0.00001-2", "0", "3C0"])
def test_there_and_back(text: str) -> None:
    assert layers_text(parse_layers(text)) == text


@pytest.mark.parametrize("text", ["", "-", "20C", "C5", "20C5,P", "D", "D-1", "1.5", "-30", "9" * 12, "P2"])
def test_what_names_no_layers_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="expected layers such as"):
        parse_layers(text)
