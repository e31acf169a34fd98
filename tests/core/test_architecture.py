import numpy as np
import pytest

from mnist_core import InvalidValue
from mnist_core.architecture import Architecture, Stage
from mnist_core.layer import Convolution, Dense, Dropout, Layer, MaxPool

BEST: list[Layer] = [
    Convolution(20, 5), MaxPool(), Convolution(40, 5), MaxPool(), Dropout(0.25), Dense(150), Dropout(0.5),
]  # fmt: skip


def test_a_convolutional_network_has_the_shapes_worked_out_by_hand() -> None:
    # 28 - 5 + 1 = 24, pooled 12; 12 - 5 + 1 = 8, pooled 4; 4 x 4 x 40 = 640.
    # (25 + 1) 20 + (500 + 1) 40 + (640 + 1) 150 + (150 + 1) 10 = 520 + 20,040 + 96,150 + 1,510 = 118,220.
    found = Architecture.of_layers((28, 28), BEST, 10)
    assert found.stages == (Stage(28, 28, 1, 20, 5, True), Stage(12, 12, 20, 40, 5, True))
    assert [stage.outputs for stage in found.stages] == [(12, 12, 20), (4, 4, 40)]
    assert found.dense == (640, 150, 10)
    assert found.dropout == (0.25, 0.5)
    assert found.sizes == (784, 2880, 640, 150, 10)
    assert found.shapes == ((25, 20), (500, 40), (640, 150), (150, 10))
    assert found.parameters == 118_220
    assert found.work == 576 * 520 + 64 * 20_040 + 96_150 + 1_510


def test_dense_layers_alone_are_the_same_however_they_are_given() -> None:
    by_sizes = Architecture.of_sizes((784, 30, 10))
    assert by_sizes == Architecture.of_layers((28, 28), [Dense(30)], 10)
    assert by_sizes.sizes == by_sizes.dense == (784, 30, 10)
    assert by_sizes.parameters == by_sizes.work == 23_860
    assert Architecture.of_layers((28, 28), [], 10) == Architecture.of_sizes((784, 10))


def test_blocks_lie_one_after_the_other() -> None:
    architecture = Architecture.of_layers((5, 5), [Convolution(2, 2), MaxPool(), Dense(3)], 4)
    flat = np.arange(architecture.parameters, dtype=np.float32)
    blocks = architecture.blocks(flat)
    assert [block.weights.shape for block in blocks] == [(4, 2), (8, 3), (3, 4)]
    # (4 + 1) 2 = 10 numbers, then (8 + 1) 3 = 27, then (3 + 1) 4 = 16.
    assert [list(block.biases) for block in blocks] == [[8, 9], [34, 35, 36], [49, 50, 51, 52]]
    np.testing.assert_array_equal(np.concatenate([block.block.ravel() for block in blocks]), flat)
    assert all(np.shares_memory(block.weights, flat) for block in blocks)


@pytest.mark.parametrize(
    ("image", "layers", "field", "word"),
    [
        ((4, 9), [Convolution(1, 5)], "layers[0].size", "5 x 5 are needed"),
        ((9, 4), [Convolution(1, 5)], "layers[0].size", "9 x 4 come in"),
        ((5, 5), [Convolution(1, 5), MaxPool()], "layers[0].size", "6 x 6 are needed"),
        ((28, 28), [Convolution(1, 5), MaxPool(), Convolution(1, 13)], "layers[2].size", "12 x 12 come in"),
        ((256, 256), [Convolution(100, 5)], "layers[0].features", "4194304 numbers"),
        ((100, 100), [Convolution(64, 3)] * 9, "layers[3].features", "numbers an image"),
        ((28, 28), [Dense(65_536), Dense(65_536)], "sizes", "100000000 parameters"),
    ],
)
def test_what_does_not_fit_is_refused(
    image: tuple[int, int], layers: list[Layer], field: str, word: str
) -> None:
    with pytest.raises(InvalidValue, match=word) as caught:
        Architecture.of_layers(image, layers, 10)
    assert caught.value.field == field


@pytest.mark.parametrize("sizes", [(), (1,), (0, 1), (3, -1), (3, 0, 2)])
def test_what_is_no_network_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValue, match=r"^sizes: "):
        Architecture.of_sizes(sizes)
