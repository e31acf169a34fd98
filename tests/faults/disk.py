"""Disks that are full and directories that cannot be written to, for a while: then all goes on."""

import contextlib
import errno
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial

from tests.faults.campaign import LIGHT, SHORT, Campaign, Watcher
from tests.faults.checks import clean, succeeded
from tests.faults.machine import Machine, wait

from mnist_client import Client, MnistError
from mnist_client.history import Failed

CALLS = ("mkstemp", "write", "fsync")


@contextlib.contextmanager
def small_files(machine: Machine, size: int) -> Iterator[None]:
    """No file of any of its processes grows beyond a size while the context lasts (RLIMIT_FSIZE)."""
    changed = []
    for pids in machine.pids().values():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                changed.append((pid, resource.prlimit(pid, resource.RLIMIT_FSIZE)))
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, changed[-1][1][1]))
    try:
        yield
    finally:
        # Trainers that were started meanwhile have inherited the limit.
        for pid in {pid for pids in machine.pids().values() for pid in pids}:
            before = next((limits for known, limits in changed if known == pid), changed[0][1])
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def injected(machine: Machine, call: str, number: int) -> Iterator[None]:
    """A call of durable.py fails while the context lasts."""
    machine.faults(durable={"call": call, "errno": number})
    try:
        yield
    finally:
        machine.faults()


Faults = list[tuple[str, Callable[[Machine], contextlib.AbstractContextManager[None]]]]


def full(campaign: Campaign) -> None:
    """The disk is full, by the process's limit and by an injected ENOSPC."""
    faults: Faults = []
    for _ in range(15):
        size = campaign.random.choice((0, 4096, 2**16))
        faults.append(("a full disk (RLIMIT_FSIZE)", partial(small_files, size=size)))
    for call in CALLS * 5:
        faults.append((f"a full disk (ENOSPC in {call})", partial(injected, call=call, number=errno.ENOSPC)))
    _disturbed(campaign, faults)


def unwritable(campaign: Campaign) -> None:
    """Folders of the directory cannot be written to, by their mode and by injected errors."""
    faults: Faults = [("an unwritable directory (its mode)", _by_mode) for _ in range(8)]
    for number in (errno.EACCES, errno.EROFS) * 2:
        kind = f"an unwritable directory ({errno.errorcode[number]} in mkstemp)"
        faults.append((kind, partial(injected, call="mkstemp", number=number)))
    _disturbed(campaign, faults)


def _by_mode(machine: Machine) -> contextlib.AbstractContextManager[None]:
    folders = [machine.data / name for name in ("jobs", "models", "datasets")]
    return machine.unwritable(*folders, *(machine.data / "jobs").iterdir())


def _disturbed(campaign: Campaign, faults: Faults) -> None:
    campaign.random.shuffle(faults)
    with campaign.machine() as machine, machine.client() as client:
        for number, (kind, fault) in enumerate(faults):
            name = campaign.random.choice(LIGHT)
            expected, taken = campaign.undisturbed(name, SHORT[name])
            job = client.train(campaign.data, **SHORT[name]).name
            watcher = Watcher(client, job)
            time.sleep(campaign.random.uniform(0, taken))
            with fault(machine):
                time.sleep(campaign.random.uniform(0.2, 1.5))
                _ask(client, number)
            campaign.count(kind)
            succeeded(client, job, expected)
            watcher.finish(expected)
            assert client.health() == "SERVING"
            _forget(client, job)
        clean(machine)
        size = machine.size()
        assert size < 60 * 2**20, f"the directory has grown to {size} bytes"


def _ask(client: Client, number: int) -> None:
    """Asks for what has to be written; it may be refused, and is then not there."""
    alias = f"alias-{number}"
    known = {model.name for model in client.models()}
    for model in sorted(known)[:1]:
        try:
            client.set_alias(model.removeprefix("models/"), alias, 1)
        except MnistError:
            assert alias not in client.model(model).aliases
        else:
            assert client.model(model).aliases[alias] == 1


def _forget(client: Client, job: str) -> None:
    """Deletes a job and, but for the first, its model: the directory must not grow."""
    model = client.job(job).status().model
    client.job(job).delete()
    if len(list(client.models())) > 1:
        client.delete_model(model, force=True)


def never(campaign: Campaign) -> None:
    """A disk that stays full: the job has failed, with its reason, and the server serves."""
    with campaign.machine() as machine, machine.client() as client:
        job = client.train(campaign.data, epochs=1, seed=1)
        machine.faults(durable={"call": "fsync", "errno": errno.ENOSPC})
        campaign.count("a disk that stays full")
        events = list(job.watch())
        assert isinstance(events[-1], Failed)
        assert "could not read or write its files" in events[-1].reason
        machine.faults()
        assert client.health() == "SERVING"
        wait(lambda: not list((machine.data / "jobs").iterdir()), "a failed job's folder is left")
        expected, _ = campaign.undisturbed("quick", SHORT["quick"])
        succeeded(client, client.train(campaign.data, **SHORT["quick"]).name, expected)
        clean(machine)
