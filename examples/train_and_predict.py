"""Trains the classic network, watches it learn, judges it and shows it pictures.

python examples/train_and_predict.py mnist examples/seven.png
"""

import sys

from mnist_client import Client, EpochFinished

data, *pictures = sys.argv[1:]  # mnist, mnist-5k, a folder, an .npz or a CSV file; then pictures of digits
with Client() as client:  # of $MNIST_SERVER, or 127.0.0.1:50051
    job = client.train(data, name="mnist", promote=True)  # `mnist` is to stand for what this makes
    for event in job.watch():
        if isinstance(event, EpochFinished):
            print(event)
    print(f"{client.evaluate(data).accuracy:.2%} right")
    for picture, prediction in zip(pictures, client.predict(pictures), strict=True):
        print(f"{picture}: {prediction.digit} ({prediction.confidence:.1%})")
