"""A training job's handle for programs that do other things while they wait: `TrainingJob`, async."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Literal, overload

import grpc

from mnist_client.errors import InternalError
from mnist_client.history import Event, Notice, Succeeded
from mnist_client.resources import Job
from mnist_client.watch import outcome
from mnist_client.wire import to_job
from mnist_proto.v1 import training_pb2

if TYPE_CHECKING:
    from mnist_client.aio import AsyncClient


class AsyncTrainingJob:
    """The handle of a job, which goes on whether or not anybody holds one."""

    def __init__(self, client: "AsyncClient", name: str, *, contact: bool = False) -> None:
        self.name = name
        """jobs/{j}"""
        self._client = client
        self._contact = contact

    @overload
    def watch(self, after_sequence: int = 0, *, notices: Literal[False] = False) -> AsyncIterator[Event]: ...
    @overload
    def watch(self, after_sequence: int = 0, *, notices: bool) -> AsyncIterator[Event | Notice]: ...
    async def watch(self, after_sequence: int = 0, *, notices: bool = False) -> AsyncIterator[Event | Notice]:
        """Yields the job's events until it has ended, as `TrainingJob.watch`."""
        messages = self._client._watch(self.name, after_sequence, contact=self._contact)
        async with aclosing(messages):
            async for message in messages:
                self._contact = True
                if notices or isinstance(message, Event):
                    yield message

    async def result(self, timeout: float | None = None) -> Succeeded:
        """Waits for the job's end, as `TrainingJob.result`."""
        try:
            messages = self._client._watch(self.name, 0, contact=self._contact)
            async with asyncio.timeout(timeout), aclosing(messages):
                async for message in messages:
                    self._contact = True
                    if (end := outcome(message)) is not None:
                        return end
        except TimeoutError:
            raise TimeoutError(f"{self.name} has not ended within {timeout:g} s") from None
        raise InternalError(grpc.StatusCode.INTERNAL, f"{self.name} has no last event")

    async def status(self) -> Job:
        """Returns the job as it is now."""
        request = training_pb2.GetTrainingJobRequest(job=self.name)
        return to_job((await self._client._call(self._client._training.GetTrainingJob, request)).job)

    async def cancel(self) -> Job:
        """Asks the job to end, as `TrainingJob.cancel`."""
        request = training_pb2.CancelTrainingRequest(job=self.name)
        return to_job((await self._client._call(self._client._training.CancelTraining, request)).job)

    async def delete(self) -> None:
        """Has the server forget the job, as `TrainingJob.delete`."""
        request = training_pb2.DeleteTrainingJobRequest(job=self.name)
        await self._client._call(self._client._training.DeleteTrainingJob, request)

    async def pause(self) -> Job:
        """Asks the job to put itself aside, as `TrainingJob.pause`."""
        request = training_pb2.PauseTrainingRequest(job=self.name)
        return to_job((await self._client._call(self._client._training.PauseTraining, request)).job)

    async def resume(self, *, allow_inexact: bool = False) -> Job:
        """Puts the job back into the queue, as `TrainingJob.resume`."""
        request = training_pb2.ResumeTrainingRequest(job=self.name, allow_inexact=allow_inexact)
        return to_job((await self._client._call(self._client._training.ResumeTraining, request)).job)

    def __repr__(self) -> str:
        return f"AsyncTrainingJob({self.name!r})"
