"""A training job's handle: what can be asked of it, and its history as it comes."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, overload

import grpc

from mnist_client.errors import InternalError
from mnist_client.history import Event, Notice, Succeeded
from mnist_client.resources import Job
from mnist_client.watch import outcome
from mnist_client.wire import to_job
from mnist_proto.v1 import training_pb2

if TYPE_CHECKING:
    from mnist_client.client import Client


class TrainingJob:
    """The handle of a job, which goes on whether or not anybody holds one."""

    def __init__(self, client: "Client", name: str, *, contact: bool = False) -> None:
        self.name = name
        """jobs/{j}"""
        self._client = client
        self._contact = contact

    @overload
    def watch(self, after_sequence: int = 0, *, notices: Literal[False] = False) -> Iterator[Event]: ...
    @overload
    def watch(self, after_sequence: int = 0, *, notices: bool) -> Iterator[Event | Notice]: ...
    def watch(self, after_sequence: int = 0, *, notices: bool = False) -> Iterator[Event | Notice]:
        """Yields the job's events after a sequence, in order, each once, then follows it until it has ended.

        When the server is lost it is looked for until `reconnect_timeout` has gone by without a word from it,
        and the watch goes on after the last event. Leaving the iterator does nothing to the job.

        after_sequence: the last event that is known already; 0 for none.
        notices: yield progress, heartbeats and draining too.

        Raises NotFound for a job that there is not.
        """
        for message in self._client._watch(self.name, after_sequence, contact=self._contact):
            self._contact = True
            if notices or isinstance(message, Event):
                yield message

    def result(self, timeout: float | None = None) -> Succeeded:
        """Waits for the job's end, and returns what it made.

        timeout: seconds to wait; None is as long as it takes.

        Raises JobFailed, JobCancelled, or TimeoutError; after that the job goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            for message in self._client._watch(self.name, 0, contact=self._contact, deadline=deadline):
                self._contact = True
                if (end := outcome(message)) is not None:
                    return end
        except TimeoutError:
            raise TimeoutError(f"{self.name} has not ended within {timeout:g} s") from None
        raise InternalError(grpc.StatusCode.INTERNAL, f"{self.name} has no last event")

    def status(self) -> Job:
        """Returns the job as it is now."""
        request = training_pb2.GetTrainingJobRequest(job=self.name)
        return to_job(self._client._call(self._client._training.GetTrainingJob, request).job)

    def cancel(self) -> Job:
        """Asks the job to end, and returns it as it is now: it may be RUNNING for a moment still.

        Raises ConditionNotMet for a job that has ended otherwise.
        """
        request = training_pb2.CancelTrainingRequest(job=self.name)
        return to_job(self._client._call(self._client._training.CancelTraining, request).job)

    def delete(self) -> None:
        """Has the server forget the job, which has ended, with its history; the version it made stays.

        Raises ConditionNotMet for a job that has not ended.
        """
        request = training_pb2.DeleteTrainingJobRequest(job=self.name)
        self._client._call(self._client._training.DeleteTrainingJob, request)

    def pause(self) -> Job:
        """Asks the job, which runs, to put itself aside, and returns it as it is now: it may be RUNNING for a
        moment still. It stays PAUSED until it is resumed or cancelled.

        Raises ConditionNotMet for a job that is queued or has ended.
        """
        request = training_pb2.PauseTrainingRequest(job=self.name)
        return to_job(self._client._call(self._client._training.PauseTraining, request).job)

    def resume(self, *, allow_inexact: bool = False) -> Job:
        """Puts the job, which is paused, back into the queue, and returns it. It goes on to the same bits.

        allow_inexact: go on even where libraries or the processor are not those that it was accepted with,
            though it may then come to other bits.

        Raises ConditionNotMet for a job that is not paused, or where something differs, naming it.
        """
        request = training_pb2.ResumeTrainingRequest(job=self.name, allow_inexact=allow_inexact)
        return to_job(self._client._call(self._client._training.ResumeTraining, request).job)

    def __repr__(self) -> str:
        return f"TrainingJob({self.name!r})"
