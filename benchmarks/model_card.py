"""The figures of the model card: the pretrained model, judged on MNIST's test set by a new server.

`python -m benchmarks.model_card`; needs MNIST_DATA. Writes them into docs/model-card.md, between two marks.
"""

import tempfile
from pathlib import Path

import click
from benchmarks.accuracy.run import correct_by_views
from benchmarks.training.through_server import server

from mnist_client import Client, Evaluation, ModelVersion
from mnist_client.datasets import load_dataset

REPOSITORY = Path(__file__).resolve().parents[1]
CARD = REPOSITORY / "docs" / "model-card.md"
FILE = REPOSITORY / "server" / "mnist_server" / "pretrained.safetensors"
BEGIN, END = "<!-- figures, by make pretrained -->\n", "<!-- end of figures -->\n"


@click.command()
def main() -> None:
    """Measures, and writes what was found."""
    test = load_dataset("mnist").test
    assert test is not None
    with (
        tempfile.TemporaryDirectory(prefix="mnist-card-") as folder,
        server(Path(folder)) as address,
        Client(address, timeout=60) as client,
    ):
        judged = client.evaluate(test)
        views = correct_by_views(client, "mnist", test)
        [version] = client.model("mnist").versions
    text = figures(judged, views, version)
    before, rest = CARD.read_text().split(BEGIN)
    _, after = rest.split(END)
    CARD.write_text(before + BEGIN + text + END + after)
    click.echo(text)


def figures(judged: Evaluation, views: int, version: ModelVersion) -> str:
    """Returns the figures as Markdown."""
    rows = [
        f"| {digit} | {each.support:,} | {each.recall:.2%} | {each.precision:.2%} |"
        for digit, each in enumerate(judged.per_class)
    ]
    confused = sorted(
        (
            (int(count), label, taken)
            for label, counts in enumerate(judged.confusion_matrix)
            for taken, count in enumerate(counts)
            if label != taken and count
        ),
        key=lambda each: (-each[0], *each[1:]),
    )[:5]
    made = {name: version.provenance.get(name, "") for name in ("dataset", "code_version", "numpy_version")}
    lines = [
        f"- right on {judged.correct:,} of MNIST's {judged.total:,} test images: **{judged.accuracy:.2%}**",
        f"- by the mean over nine views of an image: {views / judged.total:.2%}",
        f"- expected calibration error, 15 bins: {judged.ece:.2%}; mean loss {judged.loss:.4f}",
        f"- {version.parameters:,} parameters, {FILE.stat().st_size:,} bytes; weights' SHA-256 "
        f"`{version.weights_hash}`",
        f"- made of `{made['dataset']}` by version {made['code_version']}, NumPy {made['numpy_version']}",
        "- most often taken for another: "
        + ", ".join(f"{label} for {taken} ({count})" for count, label, taken in confused),
        "",
        "| digit | test images | named so (recall) | rightly named so (precision) |",
        "|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
