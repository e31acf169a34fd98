import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnist_core.durable import TEMPORARY_PREFIX, Bytes, sync_directory, write_file


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    assert path.read_bytes() == b"old"
    write_file(path, parts())
    assert path.read_bytes() == b"new!"
    write_file(path, memoryview(b"once more"))
    assert path.read_bytes() == b"once more"
    assert names(tmp_path) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o600


def parts() -> Iterator[Bytes]:
    yield b"ne"
    yield memoryview(b"w")
    yield bytearray(b"!")


def failing() -> Iterator[bytes]:
    yield b"half of "
    raise RuntimeError("the other half is missing")


def test_a_write_that_fails_midway_leaves_the_old_content_and_nothing_aside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    with pytest.raises(RuntimeError, match="other half"):
        write_file(path, failing())
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    with pytest.raises(RuntimeError):
        write_file(tmp_path / "new", failing())
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(("owner", "call"), [(os, "fsync"), (Path, "replace")])
def test_a_disk_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str
) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_content_is_on_the_disk_before_it_has_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def record_fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        if target == tmp_path:
            steps.append("fsync folder")
        else:
            assert target.name.startswith(TEMPORARY_PREFIX)
            assert target.read_bytes() == b"content"
            steps.append("fsync file")
        fsync(descriptor)

    def record_replace(source: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    write_file(tmp_path / "file", b"content")
    assert steps == ["fsync file", "rename", "fsync folder"]


def test_a_folder_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "missing" / "file", b"")
    with pytest.raises(FileNotFoundError):
        sync_directory(tmp_path / "missing")
