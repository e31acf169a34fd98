import numpy as np
import pytest
from scipy.signal import convolve, correlate

from mnist_core.architecture import Stage
from mnist_core.convolution import Folding, KernelGradient, unfold, unfolded_shape, windows

# (height, width, channels, features, size, pooled): square and not, one channel and several, rows left out.
STAGES = [
    Stage(5, 6, 1, 2, 2, False),
    Stage(6, 5, 3, 2, 3, False),
    Stage(7, 8, 2, 3, 3, True),
    Stage(6, 9, 2, 1, 2, True),
    Stage(4, 4, 2, 3, 4, False),
    Stage(3, 4, 2, 2, 1, False),
]
EXAMPLES = 3


@pytest.mark.parametrize("stage", STAGES)
def test_windows_are_what_lies_under_the_kernels(stage: Stage) -> None:
    images = np.random.default_rng(41).random((stage.height, stage.channels, stage.width, EXAMPLES))
    unfolded = np.empty(unfolded_shape(stage, EXAMPLES))
    unfold(images, stage, unfolded)
    found = windows(unfolded, stage)
    assert np.shares_memory(found, unfolded)  # views, not copies
    found = found.reshape(stage.rows, stage.size, stage.size, stage.channels, stage.columns, EXAMPLES)
    for row in range(stage.rows):
        for column in range(stage.columns):
            under = images[row : row + stage.size, :, column : column + stage.size]  # (K, C, K, B)
            np.testing.assert_array_equal(found[row, :, :, :, column], under.transpose(0, 2, 1, 3))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("numbers", [1, 10**6])  # a row of products at a time, and all at once
def test_the_gradient_of_kernels_is_a_correlation(
    stage: Stage, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_core.convolution._NUMBERS", numbers)
    rng = np.random.default_rng(42)
    images = rng.random((stage.height, stage.channels, stage.width, EXAMPLES))
    delta = rng.random((stage.rows, stage.features, stage.columns, EXAMPLES))
    unfolded = np.empty(unfolded_shape(stage, EXAMPLES))
    into = np.ones((stage.inputs, stage.features))
    gradient = KernelGradient(stage, windows(unfolded, stage), delta, into, 0.5)
    unfold(images, stage, unfolded)
    gradient.add()
    found = into.reshape(stage.size, stage.size, stage.channels, stage.features)
    rows, columns = stage.rows + stage.size - 1, stage.columns + stage.size - 1
    for channel in range(stage.channels):
        for feature in range(stage.features):
            each = (
                correlate(images[:rows, channel, :columns, b], delta[:, feature, :, b], "valid")
                for b in range(EXAMPLES)
            )
            np.testing.assert_allclose(found[:, :, channel, feature], 1 + 0.5 * sum(each), rtol=1e-12)


@pytest.mark.parametrize("stage", STAGES)
def test_errors_go_back_by_a_full_convolution(stage: Stage) -> None:
    rng = np.random.default_rng(43)
    weights = rng.random((stage.inputs, stage.features))
    delta = rng.random((stage.rows, stage.features, stage.columns, EXAMPLES))
    below = np.full((stage.height, stage.channels, stage.width, EXAMPLES), np.nan)
    Folding(stage, weights, delta, below).send_back()
    kernels = weights.reshape(stage.size, stage.size, stage.channels, stage.features)
    rows, columns = stage.rows + stage.size - 1, stage.columns + stage.size - 1
    for channel in range(stage.channels):
        for example in range(EXAMPLES):
            expected = sum(
                convolve(delta[:, feature, :, example], kernels[:, :, channel, feature], "full")
                for feature in range(stage.features)
            )
            np.testing.assert_allclose(below[:rows, channel, :columns, example], expected, rtol=1e-12)
    assert (below[rows:] == 0).all()  # no kernel was laid there
    assert (below[:, :, columns:] == 0).all()
