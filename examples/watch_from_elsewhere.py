"""Follows a training job that another program started, by its name alone; without one, the newest job.

python examples/watch_from_elsewhere.py [JOB [AFTER_SEQUENCE]]

Watching changes nothing: it may begin late, end early and be done twice. What was missed is replayed, and a
lost connection is taken up again where it broke.
"""

import sys
from itertools import islice

from mnist_client import Client, EpochFinished, JobCancelled, JobFailed

with Client() as client:
    name = sys.argv[1] if len(sys.argv) > 1 else next((job.name for job in islice(client.jobs(), 1)), None)
    if name is None:
        sys.exit("The server has no jobs.")
    job = client.job(name)
    for event in job.watch(after_sequence=int(sys.argv[2]) if len(sys.argv) > 2 else 0):
        line = str(event) if isinstance(event, EpochFinished) else type(event).__name__
        print(f"{event.sequence:3} {event.time:%H:%M:%S} {line}")
    try:
        print(f"It made {job.result(timeout=10).model_version}")
    except (JobFailed, JobCancelled) as error:
        sys.exit(str(error))
