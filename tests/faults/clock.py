"""A clock that is set back: order is that of sequences, and durations are monotonic."""

import time

from tests.faults.campaign import LIGHT, SHORT, Campaign, Watcher
from tests.faults.checks import clean, hashes, succeeded

from mnist_client.history import EpochFinished, Succeeded

SHIFTS = (-3600.0, -86_400.0, -10 * 365 * 86_400.0, -0.5, -7 * 86_400.0)


def clock(campaign: Campaign) -> None:
    """The wall clock jumps while jobs run and wait, and before a restart; a time budget does not notice."""
    with campaign.machine() as machine, machine.client() as client:
        names = []
        for turn, shift in enumerate(SHIFTS):
            name = campaign.random.choice(LIGHT)
            expected, taken = campaign.undisturbed(name, SHORT[name])
            jobs = [client.train(campaign.data, **SHORT[name]).name for _ in range(2)]
            names += jobs
            watchers = [Watcher(client, job) for job in jobs]
            time.sleep(campaign.random.uniform(0, taken))
            machine.faults(clock=shift)
            campaign.count("the clock set back")
            if turn % 2:
                machine.kill("server")
                machine.start()
            for job, watcher in zip(jobs, watchers, strict=True):
                events = succeeded(client, job, expected)
                watcher.finish(expected)
                epochs = [event for event in events if isinstance(event, EpochFinished)]
                assert all(0 <= epoch.seconds < 60 for epoch in epochs)
            assert [job.name for job in client.jobs()] == names[::-1]
            assert client.health() == "SERVING"
        # A budget of time in the middle of which the clock is set back by a year.
        machine.faults()
        began = time.monotonic()
        budgeted = client.train(campaign.data, epochs=100_000, seed=1, time_budget=3.0)
        time.sleep(1.5)
        machine.faults(clock=-365 * 86_400.0)
        campaign.count("the clock set back")
        events = list(budgeted.watch())
        end = events[-1]
        assert isinstance(end, Succeeded)
        assert end.stop_reason == "time_budget"
        assert time.monotonic() - began < 60
        spent = [event.seconds for event in events if isinstance(event, EpochFinished)]
        assert sum(spent[:-1]) < 3.0 <= sum(spent)
        assert len(hashes(events)) == len(spent)
        machine.faults()
        clean(machine)
