"""A protocol is how images travel to a contender and probabilities back: bytes, both ways, and where to."""

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

from mnist_proto.v1 import prediction_pb2

SIDE, INPUTS, CLASSES = 28, 784, 10
STREAM_PATH = "/mnist.v1.PredictionService/PredictStream"

Images = NDArray[np.uint8]  # (B, 784)
Probabilities = NDArray[np.float32]  # (B, 10)


@dataclass(frozen=True)
class Protocol:
    """One way to ask. grpc: over HTTP/2 with gRPC's framing, not HTTP/1.1 and JSON."""

    name: str
    path: str
    encode: Callable[[Images], bytes]
    decode: Callable[[bytes], Probabilities]
    grpc: bool = True


def frame(message: bytes) -> bytes:
    """Returns a message as gRPC puts it on a stream: uncompressed, its length before it."""
    return struct.pack(">BI", 0, len(message)) + message


def stream_request(number: int, image: Images) -> bytes:
    """Returns a PredictStreamRequest of one image (784,)."""
    request = prediction_pb2.PredictRequest(pixels=image.tobytes(), height=SIDE, width=SIDE)
    return prediction_pb2.PredictStreamRequest(id=number, request=request).SerializeToString()


def stream_messages(images: Images) -> bytes:
    """Returns a whole stream, one image a message, as it goes over the wire."""
    return b"".join(frame(stream_request(number, image)) for number, image in enumerate(images))


def _predict_request(images: Images) -> bytes:
    return prediction_pb2.PredictRequest(pixels=images.tobytes(), height=SIDE, width=SIDE).SerializeToString()


def _predict_response(answer: bytes) -> Probabilities:
    response = prediction_pb2.PredictResponse.FromString(answer)
    return np.array(response.probabilities, dtype=np.float32).reshape(-1, CLASSES)


def null_answers(probabilities: Probabilities) -> dict[str, bytes]:
    """Returns by method what a server that computes nothing is to answer: messages like those of ours."""
    digits = probabilities.argmax(axis=1)
    predicted = prediction_pb2.PredictResponse(
        model="models/mnist/versions/1",
        digits=digits.tolist(),
        confidences=probabilities.max(axis=1).tolist(),
        probabilities=probabilities.ravel().tolist(),
        classes=CLASSES,
    )
    inferred = _InferResponse(raw_output_contents=[probabilities.astype("<f4").tobytes()])
    inferred.outputs.add(name="probabilities", datatype="FP32", shape=probabilities.shape)
    return {"Predict": predicted.SerializeToString(), "ModelInfer": inferred.SerializeToString()}


def _infer_messages() -> tuple[Any, Any]:
    """The part of the Open Inference Protocol that is needed, in a pool of its own."""
    field = descriptor_pb2.FieldDescriptorProto
    kinds = {"string": field.TYPE_STRING, "int64": field.TYPE_INT64, "bytes": field.TYPE_BYTES}
    kinds["float"] = field.TYPE_FLOAT
    file = descriptor_pb2.FileDescriptorProto(
        name="benchmark/inference.proto", package="inference", syntax="proto3"
    )
    messages = {
        "Contents": [(6, "fp32_contents", "float", True)],
        "Tensor": [
            (1, "name", "string", False),
            (2, "datatype", "string", False),
            (3, "shape", "int64", True),
            (5, "contents", "Contents", False),
        ],
        "ModelInferRequest": [
            (1, "model_name", "string", False),
            (5, "inputs", "Tensor", True),
            (6, "outputs", "Tensor", True),
            (7, "raw_input_contents", "bytes", True),
        ],
        "ModelInferResponse": [(5, "outputs", "Tensor", True), (6, "raw_output_contents", "bytes", True)],
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for number, field_name, kind, repeated in fields:
            message.field.add(
                number=number,
                name=field_name,
                label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL,
                type=kinds.get(kind, field.TYPE_MESSAGE),
                type_name=None if kind in kinds else f".inference.{kind}",
            )
    classes = message_factory.GetMessages([file], descriptor_pool.DescriptorPool())
    return classes["inference.ModelInferRequest"], classes["inference.ModelInferResponse"]


_InferRequest, _InferResponse = _infer_messages()


def _infer_request(model: str, images: NDArray[Any], datatype: str) -> bytes:
    request = _InferRequest(model_name=model, raw_input_contents=[images.tobytes()])
    request.inputs.add(name="images", datatype=datatype, shape=images.shape)
    request.outputs.add(name="probabilities")
    data: bytes = request.SerializeToString()
    return data


def _infer_fp32(images: Images) -> bytes:
    return _infer_request("mnist", images.astype(np.float32) / np.float32(255), "FP32")


def _infer_uint8(images: Images) -> bytes:
    return _infer_request("mnist-uint8", images, "UINT8")


def _infer_response(answer: bytes) -> Probabilities:
    response = _InferResponse.FromString(answer)
    index = [output.name for output in response.outputs].index("probabilities")
    if response.raw_output_contents:
        values = np.frombuffer(response.raw_output_contents[index], dtype="<f4")
    else:
        values = np.array(response.outputs[index].contents.fp32_contents, dtype=np.float32)
    return values.reshape(-1, CLASSES)


def _raw_response(answer: bytes) -> Probabilities:
    return np.frombuffer(answer, dtype="<f4").reshape(-1, CLASSES)


def _json_request(images: Images) -> bytes:
    return json.dumps({"pixels": base64.b64encode(images.tobytes()).decode()}).encode()


def _json_response(answer: bytes) -> Probabilities:
    return np.array(json.loads(answer)["probabilities"], dtype=np.float32)


PREDICT = Protocol(
    "mnist.v1 Predict, uint8", "/mnist.v1.PredictionService/Predict", _predict_request, _predict_response
)
INFER_PATH = "/inference.GRPCInferenceService/ModelInfer"
INFER = Protocol("ModelInfer, FP32", INFER_PATH, _infer_fp32, _infer_response)
INFER_UINT8 = Protocol("ModelInfer, uint8", INFER_PATH, _infer_uint8, _infer_response)
RAW = Protocol("raw bytes, uint8", "/benchmark.Echo/Predict", lambda images: images.tobytes(), _raw_response)
JSON = Protocol("HTTP JSON, base64", "/predict", _json_request, _json_response, grpc=False)
