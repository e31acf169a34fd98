"""Damaged files: a checkpoint gives way to the one before it, a database is refused and left alone."""

from pathlib import Path

from tests.faults.campaign import SHORT, Campaign, Watcher
from tests.faults.checks import clean, hashes, history, paused, succeeded
from tests.faults.machine import Machine, wait

from mnist_client import Client
from mnist_client.history import Continued

DAMAGES = ("torn", "flipped", "truncated to nothing", "garbage", "another's")


def _damage(campaign: Campaign, path: Path, how: str, foreign: bytes) -> None:
    data = bytearray(path.read_bytes())
    place = campaign.random.randrange(len(data))
    match how:
        case "torn":
            data = data[:place]
        case "flipped":
            data[place] ^= 1 << campaign.random.randrange(8)
        case "truncated to nothing":
            data.clear()
        case "garbage":
            data[place:] = campaign.random.randbytes(len(data) - place)
        case "another's":
            data[:] = foreign
    _write(path, bytes(data))


def _write(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:  # in its place: it is damaged, not another
        file.truncate(0)
        file.write(data)


def checkpoints(campaign: Campaign) -> None:
    """Every kind of damage to the newest checkpoint, to both, and under a server that stands still."""
    asked = SHORT["classic"] | {"epochs": 6}
    expected, _ = campaign.undisturbed("classic for six epochs", asked)
    foreign = _foreign(campaign)
    with campaign.machine() as machine, machine.client() as client:
        for how in DAMAGES:
            for both in (False, True):
                job = client.train(campaign.data, **asked).name
                watcher = Watcher(client, job)
                found = _two_checkpoints(machine, client, job)
                assert found, "it ended before it could be paused"
                damaged = found if both else found[-1:]
                for path in damaged:
                    _damage(campaign, path, how, foreign)
                    campaign.count(f"a checkpoint, {how}")
                client.job(job).resume()
                events = succeeded(client, job, expected)
                watcher.finish(expected)
                last = [event for event in events if isinstance(event, Continued)][-1]
                assert [line.partition(":")[0] for line in last.skipped_checkpoints] == [
                    path.name for path in reversed(damaged)
                ]
                assert machine.log.read_text().count("checkpoint skipped") >= 1
        clean(machine)


def _foreign(campaign: Campaign) -> bytes:
    """A checkpoint of another training, whole."""
    with campaign.machine() as machine, machine.client() as client:
        job = client.train(campaign.data, epochs=1000, seed=99).name
        found = _two_checkpoints(machine, client, job)
        data = found[-1].read_bytes()
        client.job(job).cancel()
        return data


def _two_checkpoints(machine: Machine, client: Client, job: str) -> list[Path]:
    """Pauses a job after each of its first epochs. Returns the two checkpoints, the newer last."""
    for _ in range(2):
        status = client.job(job).status()
        done = status.last_epoch.epoch if status.last_epoch else -1
        for event in client.job(job).watch(status.last_sequence):
            if getattr(event, "epoch", -1) > done and type(event).__name__ == "EpochFinished":
                client.job(job).pause()
                break
        paused(client, job)
        found = sorted((machine.data / "jobs" / job.removeprefix("jobs/")).glob("checkpoint-*"))
        if len(found) == 2:
            return found
        client.job(job).resume()
    return found


def database(campaign: Campaign) -> None:
    """A database that is garbage, torn or truncated is said and left alone; put back, nothing is lost."""
    asked = SHORT["quick"]
    expected, _ = campaign.undisturbed("quick", asked)
    with campaign.machine() as machine:
        with machine.client() as client:
            jobs = [client.train(campaign.data, **asked, name="kept").name for _ in range(2)]
            for job in jobs:
                succeeded(client, job, expected)
        for how in ("garbage from its first page on", "truncated", "torn") * 2:
            machine.stop()
            machine.rows("PRAGMA wal_checkpoint(TRUNCATE)")  # else its log mends it
            path = machine.data / "mnist.sqlite3"
            keep = path.read_bytes()
            page = 4096 * campaign.random.randrange(1, 3)
            match how:
                case "truncated":
                    broken = keep[: campaign.random.randrange(1, len(keep) // 2)]
                case "torn":
                    broken = keep[:page] + bytes(len(keep) - page)
                case _:
                    broken = campaign.random.randbytes(4096) + keep[4096:]
            _write(path, broken)
            campaign.count(f"a database, {how}")
            process = machine.spawn()
            out, _ = process.communicate(timeout=60)
            assert (process.returncode, out) == (1, b""), (how, process.returncode)
            said = machine.log.read_text().splitlines()[-1]
            assert said.startswith("mnist-server: "), said
            assert "mnist.sqlite3" in said, said
            assert path.read_bytes() == broken, "what is left of a database was touched"
            wait(lambda: not any(machine.pids().values()), "an orphan process")
            for name in ("-wal", "-shm"):
                path.with_name(path.name + name).unlink(missing_ok=True)
            _write(path, keep)
            machine.start()
            with machine.client() as client:
                assert [job.name for job in client.jobs()] == jobs[::-1]
                for job in jobs:
                    assert hashes(history(client, job)) == expected
                assert client.model("kept@2").versions[0].weights_hash == expected[-1]
        clean(machine)
