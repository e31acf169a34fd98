"""Asks about many pictures at once, over one connection, from an asyncio program.

python examples/async_predict.py scans/*.png
"""

import asyncio
import sys

from mnist_client import AsyncClient, Prediction


async def name(client: AsyncClient, picture: str) -> Prediction:
    """Returns what one picture is."""
    [prediction] = await client.predict(picture)
    return prediction


async def main(pictures: list[str]) -> None:
    """Prints what each picture is, in their order, though the answers come in any."""
    async with AsyncClient() as client:
        predictions = await asyncio.gather(*(name(client, picture) for picture in pictures))
    for picture, prediction in zip(pictures, predictions, strict=True):
        print(f"{picture}: {prediction.digit} ({prediction.confidence:.1%})")


asyncio.run(main(sys.argv[1:]))
