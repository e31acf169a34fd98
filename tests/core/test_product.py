"""Products, with SciPy's GEMM and with NumPy alone, against NumPy's plain matrix product."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from mnist_core import product as module
from mnist_core.product import product

TOLERANCE = {"float32": 1e-6, "float64": 1e-14}


@pytest.fixture(params=["scipy", "numpy"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(module, "_gemm", lambda kind: None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(("scale", "keep"), [(1.0, 0.0), (1 / 255, 0.0), (1.0, 1.0), (-0.3, 0.9)])
def test_it_adds_the_product_to_what_is_kept(
    dtype: str, turned: tuple[bool, bool], scale: float, keep: float
) -> None:
    rng = np.random.default_rng(0)

    def matrix(rows: int, columns: int, *, is_turned: bool) -> NDArray[np.floating]:
        if is_turned:
            return rng.standard_normal((columns, rows)).astype(dtype).T
        return rng.standard_normal((rows, columns)).astype(dtype)

    a, b = matrix(5, 7, is_turned=turned[0]), matrix(7, 3, is_turned=turned[1])
    c = rng.standard_normal((5, 3)).astype(dtype)
    call = product(a, b, c, scale=scale, keep=keep)
    for _ in range(2):  # the call is made once and used many times, on what the arrays then hold
        expected = scale * (a.astype("f8") @ b.astype("f8")) + keep * c
        call()
        assert_allclose(c, expected, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype])
        a += 1


def test_rows_of_one_and_columns_of_one() -> None:
    for rows, inner, columns in ((1, 1, 1), (1, 4, 3), (3, 4, 1), (4, 1, 3)):
        a, b = np.full((rows, inner), 2.0), np.full((inner, columns), 3.0)
        c = np.ones((rows, columns))
        product(a, b, c, keep=1.0)()
        assert_allclose(c, np.full((rows, columns), 1 + 6.0 * inner))


def test_what_is_in_c_does_not_matter_when_nothing_is_kept() -> None:
    c = np.full((2, 2), np.nan)
    product(np.eye(2), np.eye(2), c)()
    assert_allclose(c, np.eye(2))


def test_predicting_needs_no_scipy() -> None:
    program = "import sys, mnist_core; print([name for name in sys.modules if name.startswith('scipy')])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert found.stdout.split() == [b"[]"]
