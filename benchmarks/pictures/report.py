"""The report: the results of a run as a page of Markdown."""

import textwrap
from collections.abc import Iterator
from typing import Any

_NAMES = {
    "paint": "a paint program: flat colours, hard or soft edges, 28 to 900 pixels",
    "tablet": "a tablet: soft strokes, often on nothing",
    "tiny": "thumbnails of 28 to 48 pixels, blurred",
    "scan": "a scanner: dust, the other side shining through",
    "photo": "a phone, large: shadows, perspective, JPEG down to quality 20, turned by EXIF",
    "pencil": "thin pencil on grainy paper, in uneven light",
    "lined": "a pen on ruled or squared paper",
    "marker": "a thick marker, and the table's edge",
    "board": "chalk on a board",
    "cropped": "cut out so closely that ink touches the edges",
    "sheet": "a whole sheet or card on a table, photographed",
}


def markdown(results: dict[str, Any]) -> str:
    """Returns the page."""
    return "\n".join(_lines(results)).rstrip() + "\n"


def _lines(results: dict[str, Any]) -> Iterator[str]:
    machine, whole = results["machine"], list(results["steps"].values())[-1]
    yield from ("# Pictures that people make", "")
    yield from _paragraph(
        f"Written by `{results['command']}` on {results['date']}, at commit {results['commit']}, in "
        f"{results['minutes']:.0f} minutes. {machine['cpu']}, {machine['cores']} cores, Python "
        f"{machine['python']}. Model: `{results['model']['file']}`. All figures are in `pictures.json`."
    )
    yield from _paragraph(
        f"{whole['pictures']} pictures, {results['each']} of each of {len(whole['kinds'])} kinds, of the "
        f"{results['half']} half: its fonts, photographs, digits, ways of writing and seeds are not those "
        "that anything was tuned with (`benchmarks/pictures/halves.py`). Digits are of MNIST's test set, "
        "drawn large with pens "
        "of many widths, of scikit-learn's 43 writers, written by `strokes.py`, and of fonts that look "
        "written. Nobody has drawn or photographed them: they are made, and real pictures fail in other ways."
    )
    yield from ("## What each step is worth", "")
    yield from (
        f"| step | right | large photographs | sure ({SURE_TEXT}) | right when sure |",
        "|---|---|---|---|---|",
    )
    for name, step in results["steps"].items():
        yield (
            f"| {name} | {step['accuracy']:.2%} | {step['large']['accuracy']:.2%} | "
            f"{step['sure']['share']:.2%} | {step['sure']['accuracy']:.2%} |"
        )
    yield ""
    yield from _paragraph(f"Large: a million pixels or more, {whole['large']['pictures']} of the pictures.")
    yield from ("## By kind", "", "| kind | right |", "|---|---|")
    for kind, share in whole["kinds"].items():
        yield f"| {kind}: {_NAMES[kind]} | {share:.2%} |"
    yield from ("", "| digits from | right |", "|---|---|")
    for source, share in whole["sources"].items():
        yield f"| {source} | {share:.2%} |"
    yield ""
    yield from _paragraph(
        "Some ways of writing are those of people whom MNIST has next to nothing of: ones with a long "
        "upstroke, slashed zeros. The pretrained model was taught such habits, but none of these ways. How "
        "often each way of `strokes.py` is named rightly, alone and on clean paper:"
    )
    yield from ("| digit | its ways, in their order there |", "|---|---|")
    for digit, shares in results["ways"].items():
        yield f"| {digit} | {', '.join(f'{share:.0%}' for share in shares)} |"
    yield from _pages(results["pages"])
    saying_no = results["saying_no"]
    yield from ("", "## Saying no", "")
    yield from _paragraph(
        f"The digit score of {saying_no['digits']} digits, every picture above, against others: how often a "
        "digit's is the higher (AUROC), and how often the other is called a digit all the same (a score of "
        f"0.5 or more). Of the digits, {saying_no['called_digits']:.2%} are called so; of MNIST's "
        f"{saying_no['mnist']} as they are, {saying_no['mnist_called_digits']:.2%}, and the second AUROC is "
        "against those. Letters leave out O I l Z S B g q, which look like digits. "
        "Clutter is drawn by the same rules in both halves, so its figure says less than those of the others."
    )
    yield from ("| picture | AUROC | against MNIST's | called a digit |", "|---|---|---|---|")
    for kind, found in saying_no["kinds"].items():
        yield (
            f"| {kind} ({found['pictures']}) | {found['auroc']:.4f} | {found['auroc_mnist']:.4f} | "
            f"{found['called_digits']:.2%} |"
        )
    yield from ("", "## What it costs", "", "| picture | processor time of one core, median |", "|---|---|")
    for name, seconds in results["seconds"].items():
        yield f"| {name} | {1000 * seconds:.2f} ms |"


_PAGES = {
    "meter": "a meter's windows, close together, light on dark or dark on light",
    "form": "printed cells, a digit by hand in each",
    "lines": "lines of handwriting, blank or ruled paper",
}


def _pages(pages: dict[str, Any]) -> Iterator[str]:
    yield from ("", "## All digits on a picture", "")
    yield from _paragraph(
        f"{pages['pages']} pages of the same half, {pages['digits']} digits that stand apart, asked for with "
        "`all_digits`. A page is wholly right when every digit is found, named rightly and in reading order, "
        "and nothing else is. A digit is found when a box shares half with its own (intersection over "
        "union); the overlap is the mean of those that were found."
    )
    yield from (
        "| pages | wholly right | digits found | found and named rightly | pages in order | overlap | more |",
        "|---|---|---|---|---|---|---|",
    )
    for name, found in {**pages["kinds"], "all": pages}.items():
        text = f"{name}: {_PAGES[name]}" if name in _PAGES else name
        yield (
            f"| {text} ({found['pages']}) | {found['whole']:.2%} | {found['found']:.2%} | "
            f"{found['found_and_right']:.2%} | {found['in_order']:.2%} | {found['overlap']:.3f} | "
            f"{found['more']} |"
        )


SURE_TEXT = "confidence 0.9 or more"


def _paragraph(text: str) -> Iterator[str]:
    yield textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False)
    yield ""
