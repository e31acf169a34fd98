from pathlib import Path

import pytest

from mnist_server.progress import ProgressWriter, read_progress


def test_a_job_has_no_progress_before_it_has_made_any(tmp_path: Path) -> None:
    assert read_progress(tmp_path) is None
    assert read_progress(tmp_path / "none") is None
    ProgressWriter(tmp_path)
    assert read_progress(tmp_path) is None


def test_the_newest_replaces_the_one_before(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path)
    for epoch, images, total_images, loss in [(0, 10, 60_000, 0.5), (99_999, 2**32, 2**33, 0.0625)]:
        writer.write(epoch, images, total_images, loss)
        progress = read_progress(tmp_path)
        assert progress is not None
        assert (progress.epoch, progress.images) == (epoch, images)
        assert (progress.total_images, progress.loss) == (total_images, loss)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_process_that_goes_on_with_a_job_begins_without_progress(tmp_path: Path) -> None:
    ProgressWriter(tmp_path).write(7, 1, 2, 3.0)
    ProgressWriter(tmp_path)
    assert read_progress(tmp_path) is None


def test_progress_can_be_taken_back(tmp_path: Path) -> None:
    writer = ProgressWriter(tmp_path)
    writer.write(7, 1, 2, 3.0)
    writer.remove()
    assert read_progress(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [1, 31, 33])
def test_a_file_of_another_size_is_no_progress(tmp_path: Path, size: int) -> None:
    (tmp_path / "progress").write_bytes(bytes(size))
    assert read_progress(tmp_path) is None
