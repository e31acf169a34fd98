import numpy as np
import pytest

from mnist_core.dropout import Mask


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_share_is_left_out_and_the_rest_makes_up_for_it(rate: float, dtype: str) -> None:
    mask = Mask(200, 300, rate, dtype)
    mask.draw(np.random.default_rng(32))
    assert mask.values.dtype == dtype
    kept = mask.values != 0
    np.testing.assert_allclose(mask.values[kept], 1 / (1 - rate), rtol=1e-6)
    # 60,000 draws: the share's standard deviation is at most 0.002.
    assert kept.mean() == pytest.approx(1 - rate, abs=0.01)
    assert mask.values.mean() == pytest.approx(1, abs=0.05)
    np.testing.assert_array_less(0.03, kept.std(axis=0))  # not whole columns


def test_each_draw_is_another_and_a_seed_the_same_in_both_precisions() -> None:
    single, double = Mask(9, 8, 0.5, "float32"), Mask(9, 8, 0.5, "float64")
    first, second = np.random.default_rng(33), np.random.default_rng(33)
    single.draw(first)
    double.draw(second)
    np.testing.assert_array_equal(single.values, double.values)
    before = single.values.copy()
    single.draw(first)
    assert not np.array_equal(single.values, before)


def test_nothing_is_left_out_before_the_first_draw() -> None:
    np.testing.assert_array_equal(Mask(2, 3, 0.5, "float32").values, 1)
