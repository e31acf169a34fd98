import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import grpc
import numpy as np
import pytest

from mnist_client.datasets import Dataset
from mnist_proto.v1 import dataset_pb2 as pb
from mnist_proto.v1 import images_pb2, training_pb2
from mnist_proto.v1.dataset_pb2_grpc import DatasetServiceStub
from mnist_proto.v1.training_pb2_grpc import TrainingServiceStub
from mnist_server.data_directory import DataDirectory
from mnist_server.database import _SCHEMAS, Database
from mnist_server.dataset_files import Upload, open_dataset
from mnist_server.dataset_registry import DatasetRegistry
from mnist_server.limits import Limits
from mnist_server.rpc import Silence
from mnist_server.serving import Server

TIMEOUT = 30.0
DEADLINE = 5.0
INVALID = grpc.StatusCode.INVALID_ARGUMENT
Refused = Callable[..., Any]
Messages = Callable[..., list[training_pb2.TrainRequest]]


@pytest.fixture
def limits(request: pytest.FixtureRequest) -> Limits:
    """The server's limits; a test gives its own through indirect parametrization."""
    return getattr(request, "param", Limits())


@pytest.fixture
def stub(channel: grpc.Channel) -> DatasetServiceStub:
    return DatasetServiceStub(channel)


@pytest.fixture
def training(channel: grpc.Channel) -> TrainingServiceStub:
    return TrainingServiceStub(channel)


def batch(
    images: int = 3, label: int = 1, split: int = images_pb2.SPLIT_TRAIN, ink: int = 0
) -> pb.UploadDatasetRequest:
    """Images of 2 x 3 of one grey."""
    return pb.UploadDatasetRequest(
        batch=images_pb2.LabeledImages(
            pixels=bytes([ink]) * (6 * images),
            height=2,
            width=3,
            labels=bytes([label]) * images,
            split=images_pb2.Split.ValueType(split),
        )
    )


def short_of_labels() -> pb.UploadDatasetRequest:
    request = batch()
    request.batch.labels = b"\1"
    return request


def upload(stub: DatasetServiceStub, *batches: pb.UploadDatasetRequest) -> pb.Dataset:
    return stub.UploadDataset(iter(batches or [batch()]), timeout=TIMEOUT).dataset


def get(stub: DatasetServiceStub, name: str) -> pb.Dataset:
    return stub.GetDataset(pb.GetDatasetRequest(dataset=name), timeout=DEADLINE).dataset


def delete(stub: DatasetServiceStub, name: str) -> None:
    stub.DeleteDataset(pb.DeleteDatasetRequest(dataset=name), timeout=DEADLINE)


def names(stub: DatasetServiceStub) -> list[str]:
    return [each.name for each in stub.ListDatasets(pb.ListDatasetsRequest(), timeout=DEADLINE).datasets]


def train_on(dataset: str, **fields: Any) -> training_pb2.TrainRequest:
    config = training_pb2.TrainingConfig(dataset=dataset, seed=0, epochs=1, **fields)
    return training_pb2.TrainRequest(config=config)


def assert_nothing_left(stub: DatasetServiceStub, directory: DataDirectory) -> None:
    """The server notices a moment later that a client is gone."""
    for _ in range(100):
        if not list(directory.datasets.iterdir()):
            break
        threading.Event().wait(0.05)
    assert not list(directory.datasets.iterdir())
    assert names(stub) == []


class TestUploading:
    def test_real_digits_are_stored_with_what_there_is_to_say_of_them(
        self, stub: DatasetServiceStub, digits: Dataset, make_messages: Messages, directory: DataDirectory
    ) -> None:
        assert digits.test is not None
        messages = [
            pb.UploadDatasetRequest(batch=message.batch)
            for message in make_messages(train=2500, test=700)
            if message.HasField("batch")
        ]
        stored = upload(stub, *messages)
        assert (stored.height, stored.width, stored.bytes) == (28, 28, 3200 * 785)
        assert [split.split for split in stored.splits] == [images_pb2.SPLIT_TRAIN, images_pb2.SPLIT_TEST]
        for said, data, count in zip(stored.splits, (digits.train, digits.test), (2500, 700), strict=True):
            images, labels = data.images[:count], data.labels[:count]
            assert said.images == count
            assert list(said.class_counts) == np.bincount(labels, minlength=10).tolist()
            np.testing.assert_allclose(
                np.array(said.mean_image).reshape(28, 28), images.mean(axis=0), rtol=1e-6
            )
            assert said.constant_images == 0
        assert get(stub, stored.name) == stored
        folder = directory.datasets / stored.name.removeprefix("datasets/")
        assert (folder / "test-images").read_bytes() == digits.test.images[:700].tobytes()

    def test_images_of_one_grey_are_counted(self, stub: DatasetServiceStub) -> None:
        mixed = batch(2)
        mixed.batch.pixels = bytes(6) + bytes([1, 0, 0, 0, 0, 0])
        stored = upload(stub, batch(3, ink=255), mixed)
        [split] = stored.splits
        assert split.constant_images == 4
        assert list(split.class_counts) == [0, 5, 0, 0, 0, 0, 0, 0, 0, 0]
        np.testing.assert_allclose(split.mean_image, [153.2, 153, 153, 153, 153, 153], rtol=1e-6)

    def test_the_same_images_are_stored_once_whatever_the_batches(
        self, stub: DatasetServiceStub, directory: DataDirectory
    ) -> None:
        test = batch(2, split=images_pb2.SPLIT_TEST)
        first = upload(stub, batch(4), test)
        assert upload(stub, batch(1), test, batch(3)) == first
        assert names(stub) == [first.name]
        assert len(list(directory.datasets.iterdir())) == 1

    def test_what_train_was_sent_is_stored_too(
        self, stub: DatasetServiceStub, training: TrainingServiceStub, make_messages: Messages
    ) -> None:
        *_, last = training.Train(iter(make_messages(train=50, test=20, epochs=1)), timeout=TIMEOUT)
        assert last.event.HasField("succeeded")
        [name] = names(stub)
        assert [split.images for split in get(stub, name).splits] == [50, 20]

    @pytest.mark.parametrize(
        ("messages", "field", "words"),
        [
            ([], "batch", "no message"),
            ([batch(split=0)], "batch.split", "SPLIT_TRAIN"),
            ([short_of_labels()], "batch.labels", "one for each of the 3 images"),
            ([batch(), batch(0)], "batch.pixels", "at least one image"),
        ],
    )
    def test_what_is_no_data_set_is_refused_and_leaves_nothing(
        self,
        stub: DatasetServiceStub,
        directory: DataDirectory,
        refused: Refused,
        messages: list[pb.UploadDatasetRequest],
        field: str,
        words: str,
    ) -> None:
        refused(
            lambda: stub.UploadDataset(iter(messages), timeout=TIMEOUT), INVALID, field, words, field=field
        )
        assert_nothing_left(stub, directory)

    def test_a_client_that_breaks_off_leaves_nothing(
        self, stub: DatasetServiceStub, directory: DataDirectory
    ) -> None:
        arrived = threading.Event()

        def messages() -> Iterator[pb.UploadDatasetRequest]:
            yield batch()
            arrived.set()
            threading.Event().wait(TIMEOUT)

        call: Any = stub.UploadDataset.future(messages(), timeout=TIMEOUT)
        assert arrived.wait(TIMEOUT)
        call.cancel()
        assert_nothing_left(stub, directory)

    def test_a_client_that_falls_silent_is_sent_away_and_leaves_nothing(
        self, stub: DatasetServiceStub, directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("mnist_server.datasets.Silence", partial(Silence, seconds=0.2))
        done = threading.Event()

        def messages() -> Iterator[pb.UploadDatasetRequest]:
            yield batch()
            done.wait(TIMEOUT)

        call: Any = stub.UploadDataset.future(messages(), timeout=TIMEOUT)
        assert call.code() is grpc.StatusCode.CANCELLED
        done.set()
        assert_nothing_left(stub, directory)

    def test_a_client_that_goes_at_the_last_moment_leaves_nothing(
        self, stub: DatasetServiceStub, directory: DataDirectory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finishing, gone = threading.Event(), threading.Event()
        finish = Upload.finish

        def slow_finish(self: Upload) -> None:
            finishing.set()
            assert gone.wait(TIMEOUT)
            finish(self)

        monkeypatch.setattr(Upload, "finish", slow_finish)
        call: Any = stub.UploadDataset.future(iter([batch()]), timeout=TIMEOUT)
        assert finishing.wait(TIMEOUT)
        call.cancel()
        threading.Event().wait(0.2)  # for the news to reach the server
        gone.set()
        assert_nothing_left(stub, directory)


class TestQuota:
    @pytest.mark.parametrize("limits", [Limits(max_stored_dataset_bytes=42)], indirect=True)
    def test_a_data_set_that_there_is_no_room_for_is_refused_until_there_is(
        self, stub: DatasetServiceStub, directory: DataDirectory, refused: Refused
    ) -> None:
        first = upload(stub, batch(5))  # 35 bytes
        refused(
            lambda: upload(stub, batch(2)),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "35 bytes",
            "14 or more",
            "at most 42",
        )
        assert names(stub) == [first.name]
        assert len(list(directory.datasets.iterdir())) == 1
        upload(stub, batch(1))
        delete(stub, first.name)
        upload(stub, batch(2))

    @pytest.mark.parametrize("limits", [Limits(max_stored_dataset_bytes=42)], indirect=True)
    def test_it_holds_for_what_train_is_sent(
        self, training: TrainingServiceStub, directory: DataDirectory, refused: Refused
    ) -> None:
        messages = [
            training_pb2.TrainRequest(config=training_pb2.TrainingConfig()),
            training_pb2.TrainRequest(batch=batch(7).batch),
        ]
        refused(
            lambda: list(training.Train(iter(messages), timeout=TIMEOUT)),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "49 or more",
        )
        assert not list(directory.datasets.iterdir())

    @pytest.mark.parametrize("limits", [Limits(max_stored_dataset_bytes=3 * 2**20)], indirect=True)
    def test_what_others_send_meanwhile_counts(
        self, stub: DatasetServiceStub, directory: DataDirectory, refused: Refused
    ) -> None:
        other = Upload(directory.datasets, Limits())
        other.add("train", np.zeros((2000, 32, 32), np.uint8), np.zeros(2000, np.uint8))
        large = batch()
        large.batch.height = large.batch.width = 32
        large.batch.pixels, large.batch.labels = bytes(1200 * 1024), bytes(1200)
        refused(lambda: upload(stub, large), grpc.StatusCode.RESOURCE_EXHAUSTED, "data sets take 0 bytes")
        other.abandon()
        upload(stub, large)

    def test_it_is_asked_for_again_as_an_upload_grows(self, directory: DataDirectory) -> None:
        asked: list[int] = []
        upload = Upload(directory.datasets, Limits(), asked.append)
        images, labels = np.zeros((1000, 100, 100), np.uint8), np.zeros(1000, np.uint8)
        for _ in range(5):  # of ten million bytes each
            upload.add("train", images, labels)
        upload.abandon()
        assert asked == [10_001_000] * 3  # what is granted lasts for 16 MiB more


class TestListing:
    def test_the_last_stored_comes_first_in_pages_without_mean_images(self, stub: DatasetServiceStub) -> None:
        stored = [upload(stub, batch(count)).name for count in (1, 2, 3)]
        upload(stub, batch(1))  # which is there
        request = pb.ListDatasetsRequest(page_size=2)
        first = stub.ListDatasets(request, timeout=DEADLINE)
        request.page_token = first.next_page_token
        second = stub.ListDatasets(request, timeout=DEADLINE)
        assert [each.name for each in [*first.datasets, *second.datasets]] == stored[::-1]
        assert second.next_page_token == ""
        for each in first.datasets:
            assert not each.splits[0].mean_image
            whole = get(stub, each.name)
            assert len(whole.splits[0].mean_image) == 6
            whole.splits[0].ClearField("mean_image")
            assert whole == each

    @pytest.mark.parametrize(
        ("request_", "field"),
        [
            (pb.ListDatasetsRequest(page_size=-1), "page_size"),
            (pb.ListDatasetsRequest(page_size=1001), "page_size"),
            (pb.ListDatasetsRequest(page_token="x"), "page_token"),
        ],
    )
    def test_a_page_that_makes_no_sense_is_refused(
        self, stub: DatasetServiceStub, refused: Refused, request_: pb.ListDatasetsRequest, field: str
    ) -> None:
        refused(lambda: stub.ListDatasets(request_, timeout=DEADLINE), INVALID, field=field)

    @pytest.mark.parametrize("name", ["", "datasets/", "datasets/xyz", "datasets/" + "A" * 64, "mnist"])
    def test_a_name_that_is_none_is_refused(
        self, stub: DatasetServiceStub, refused: Refused, name: str
    ) -> None:
        refused(lambda: get(stub, name), INVALID, "datasets/{sha256}", field="dataset")
        refused(lambda: delete(stub, name), INVALID, "datasets/{sha256}", field="dataset")

    def test_one_that_is_not_there_is_not_found(self, stub: DatasetServiceStub, refused: Refused) -> None:
        name = "datasets/" + "ab" * 32
        refused(lambda: get(stub, name), grpc.StatusCode.NOT_FOUND, name)
        refused(lambda: delete(stub, name), grpc.StatusCode.NOT_FOUND, name)


class TestDeleting:
    def test_its_files_go_and_it_can_be_stored_again(
        self, stub: DatasetServiceStub, directory: DataDirectory
    ) -> None:
        first = upload(stub)
        delete(stub, first.name)
        assert_nothing_left(stub, directory)
        again = upload(stub)
        assert again.name == first.name
        assert names(stub) == [first.name]

    def test_a_job_that_has_not_ended_keeps_it_and_one_that_has_keeps_its_record(
        self,
        stub: DatasetServiceStub,
        training: TrainingServiceStub,
        refused: Refused,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("mnist_server.scheduler.Scheduler._begin", lambda self, job: None)
        name = upload(stub, batch(20)).name
        call: Any = training.Train(iter([train_on(name)]), timeout=TIMEOUT)
        job = next(call).event.job
        call.cancel()
        refused(lambda: delete(stub, name), grpc.StatusCode.FAILED_PRECONDITION, name, job)
        assert names(stub) == [name]
        training.CancelTraining(training_pb2.CancelTrainingRequest(job=job), timeout=DEADLINE)
        delete(stub, name)
        asked = training_pb2.GetTrainingJobRequest(job=job)
        assert training.GetTrainingJob(asked, timeout=DEADLINE).job.config.dataset == name
        refused(
            lambda: list(training.Train(iter([train_on(name)]), timeout=TIMEOUT)),
            grpc.StatusCode.NOT_FOUND,
            name,
        )


class TestTrainingByName:
    def test_a_job_on_a_named_data_set_comes_to_the_same_bits(
        self, stub: DatasetServiceStub, training: TrainingServiceStub, make_messages: Messages
    ) -> None:
        messages = make_messages(train=300, test=100, epochs=1)
        sent = [message.event for message in training.Train(iter(messages), timeout=TIMEOUT)]
        [name] = names(stub)
        named = [message.event for message in training.Train(iter([train_on(name)]), timeout=TIMEOUT)]
        [hashes, again] = [
            [event.epoch_finished.weights_hash for event in history if event.HasField("epoch_finished")]
            for history in (sent, named)
        ]
        assert len(hashes) == 1
        assert again == hashes
        resolved = named[0].accepted.config
        assert (resolved.dataset, resolved.config.dataset) == (name, name)
        assert (resolved.train_images, resolved.test_images) == (300, 100)

    def test_naming_what_was_sent_before_is_the_same_request(
        self, training: TrainingServiceStub, make_messages: Messages
    ) -> None:
        messages = make_messages(train=50, test=0, epochs=1, request_id="r")
        history = [message.event for message in training.Train(iter(messages), timeout=TIMEOUT)]
        again = train_on(history[0].accepted.config.dataset, request_id="r")
        repeated = [message.event for message in training.Train(iter([again]), timeout=TIMEOUT)]
        assert repeated == history

    def test_what_is_not_there_is_not_found(self, training: TrainingServiceStub, refused: Refused) -> None:
        name = "datasets/" + "cd" * 32
        refused(
            lambda: list(training.Train(iter([train_on(name)]), timeout=TIMEOUT)),
            grpc.StatusCode.NOT_FOUND,
            name,
        )

    def test_batches_beside_a_name_are_refused(
        self, stub: DatasetServiceStub, training: TrainingServiceStub, refused: Refused
    ) -> None:
        name = upload(stub, batch(20)).name
        messages = [train_on(name), training_pb2.TrainRequest(batch=batch().batch)]
        refused(
            lambda: list(training.Train(iter(messages), timeout=TIMEOUT)), INVALID, "beside", field="batch"
        )

    @pytest.mark.parametrize("name", ["mnist", "datasets/x"])
    def test_a_name_that_is_none_is_refused(
        self, training: TrainingServiceStub, refused: Refused, name: str
    ) -> None:
        refused(
            lambda: list(training.Train(iter([train_on(name)]), timeout=TIMEOUT)),
            INVALID,
            "datasets/{sha256}",
            field="config.dataset",
        )

    def test_a_data_set_without_training_images_is_refused(
        self, stub: DatasetServiceStub, training: TrainingServiceStub, refused: Refused
    ) -> None:
        name = upload(stub, batch(20, split=images_pb2.SPLIT_TEST)).name
        refused(
            lambda: list(training.Train(iter([train_on(name)]), timeout=TIMEOUT)),
            INVALID,
            "training images",
            field="config.dataset",
        )


class TestRestart:
    def test_data_sets_stay_and_half_an_upload_goes(self, directory: DataDirectory) -> None:
        def serve() -> Server:
            server = Server(directory, "127.0.0.1", 0)
            server.start()
            return server

        server = serve()
        with grpc.insecure_channel(server.address) as channel:
            stored = upload(DatasetServiceStub(channel))
        server.stop()
        half = Upload(directory.datasets, Limits())
        half.take(batch().batch)
        unnamed = directory.datasets / ("ef" * 32)
        unnamed.mkdir()
        server = serve()
        with grpc.insecure_channel(server.address) as channel:
            assert get(DatasetServiceStub(channel), stored.name) == stored
        server.stop()
        half.abandon()  # its files are open still, as they were in a process that was killed
        assert [f"datasets/{entry.name}" for entry in directory.datasets.iterdir()] == [stored.name]
        open_files = directory.dataset(stored.name)
        assert sorted(file.name for file in open_files.iterdir()) == ["train-images", "train-labels"]

    @pytest.fixture
    def old_job(
        self,
        directory: DataDirectory,
        database: Database,
        make_config: Callable[..., training_pb2.ResolvedConfig],
    ) -> training_pb2.TrainingJob:
        """One that has ended, as an older server has left it and its data set, of 20 and 4 images."""
        upload = Upload(directory.datasets, Limits())
        upload.take(batch(20).batch)
        upload.take(batch(4, split=images_pb2.SPLIT_TEST, label=7).batch)
        stored = upload.describe()
        upload.finish()
        digest = stored.name.removeprefix("datasets/")
        config = make_config()
        config.dataset = stored.name
        config.config.validation_images = config.validation_images = 5  # held back of the 20
        config.train_images, config.test_images, config.height, config.width = 15, 4, 2, 3
        job = training_pb2.TrainingJob(
            name="jobs/job-old",
            state=training_pb2.JOB_STATE_SUCCEEDED,
            config=config,
            create_time=stored.create_time,
        )
        with database.write() as connection:
            connection.execute("INSERT INTO datasets VALUES (?, 168)", (digest,))
            connection.execute("INSERT INTO stored_datasets (hash, bytes) VALUES (?, 168)", (digest,))
            connection.execute(
                "INSERT INTO jobs (name, state, dataset, request_hash, body) VALUES (?, 3, ?, '', ?)",
                (job.name, digest, job.SerializeToString()),
            )
        return job

    def test_what_an_older_server_has_stored_is_described_when_asked_for(
        self, directory: DataDirectory, database: Database, old_job: training_pb2.TrainingJob
    ) -> None:
        upload = Upload(directory.datasets, Limits())
        upload.take(batch(20).batch)
        upload.take(batch(4, split=images_pb2.SPLIT_TEST, label=7).batch)
        stored = upload.describe()
        stored.create_time.CopyFrom(old_job.create_time)
        upload.abandon()
        registry = DatasetRegistry(directory, database, 1000)
        assert registry.get(stored.name) == stored
        assert registry.get(stored.name) == stored  # now of its row
        assert open_dataset(directory.datasets, old_job.config).train.images.shape == (15, 2, 3)

    def test_what_an_older_server_has_stored_is_known_when_its_last_job_was_deleted(
        self, channel: grpc.Channel, old_job: training_pb2.TrainingJob
    ) -> None:
        TrainingServiceStub(channel).DeleteTrainingJob(
            training_pb2.DeleteTrainingJobRequest(job=old_job.name), timeout=DEADLINE
        )
        found = get(DatasetServiceStub(channel), old_job.config.dataset)
        assert [split.images for split in found.splits] == [20, 4]

    @pytest.mark.parametrize("why", ["no job", "no files"])
    def test_what_nothing_is_known_of_is_listed_sent_again_and_deleted(
        self,
        channel: grpc.Channel,
        directory: DataDirectory,
        database: Database,
        old_job: training_pb2.TrainingJob,
        refused: Refused,
        why: str,
    ) -> None:
        stub, name = DatasetServiceStub(channel), old_job.config.dataset
        if why == "no job":
            with database.write() as connection:
                connection.execute("DELETE FROM jobs")
        else:
            (directory.dataset(name) / "train-images").unlink()
        assert get(stub, name) == pb.Dataset(name=name, bytes=168)
        assert names(stub) == [name]
        training = TrainingServiceStub(channel)
        refused(
            lambda: list(training.Train(iter([train_on(name)]), timeout=DEADLINE)), INVALID, "config.dataset"
        )
        again = batch(4, split=images_pb2.SPLIT_TEST, label=7)
        assert [split.images for split in upload(stub, batch(20), again).splits] == [20, 4]
        assert [split.images for split in get(stub, name).splits] == [20, 4]
        assert names(stub) == [name]
        delete(stub, name)
        assert names(stub) == []
        assert not directory.dataset(name).exists()

    def test_data_sets_of_an_older_schema_are_stored_ones(self, directory: DataDirectory) -> None:
        raw = sqlite3.connect(directory.root / "mnist.sqlite3")
        before = next(index for index, schema in enumerate(_SCHEMAS) if "stored_datasets" in schema)
        for schema in _SCHEMAS[:before]:
            raw.executescript(schema)
        raw.executemany("INSERT INTO datasets VALUES (?, ?)", [("b", 3), ("a", 4)])
        raw.execute(f"PRAGMA user_version = {before}")
        raw.commit()
        raw.close()
        database = directory.database()
        with database.read() as connection:
            rows = connection.execute("SELECT hash, bytes, body FROM stored_datasets ORDER BY number")
            assert rows.fetchall() == [("b", 3, None), ("a", 4, None)]
        database.close()
