"""The live view of a training job: accuracy and loss as they grow, its pace, and the time that is left.

It needs rich, and is imported by those who have seen to that.
"""

import math
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mnist_client.graph import draw_curve, value_range
from mnist_client.history import EpochFinished
from mnist_client.progress import TrainingProgress, describe

_REFRESHES_A_SECOND = 8
_MAX_WIDTH = 110
_FRAME_COLUMNS = 4
# Lines that a graph needs besides its rows: its title and a blank one; and two of frame, one of the prompt.
_LINES_AROUND = 5
_LEAST_ROWS, _MOST_ROWS = 4, 8
_TWO_GRAPHS = 64  # columns from which accuracy and loss stand side by side
_ONE_GRAPH = 36
_LABEL = 9
_STATE_STYLES = {
    "QUEUED": "not dim yellow",
    "RUNNING": "not dim cyan",
    "PAUSED": "not dim yellow",
    "SUCCEEDED": "not dim bold green",
    "FAILED": "not dim bold red",
    "CANCELLED": "not dim bold yellow",
}


class TrainingView:
    """What a console shows of a job's progress, made for the size that the console has at that moment."""

    def __init__(self, progress: TrainingProgress) -> None:
        self._progress = progress

    def live(self, console: Console) -> Live:
        """Returns the context in which the console shows this view and keeps it up to date."""
        return Live(self, console=console, refresh_per_second=_REFRESHES_A_SECOND, redirect_stdout=False)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Renders the view as it is now."""
        progress = self._progress
        width = min(options.max_width, _MAX_WIDTH)
        inside = options.update(width=width - _FRAME_COLUMNS)
        above: list[RenderableType] = [*self._headline(), Text()]
        below: list[RenderableType] = [self._bars(), Text(), *self._figures()]
        lines = sum(len(console.render_lines(part, inside)) for part in above + below)
        rows = min(options.size.height - lines - _LINES_AROUND, _MOST_ROWS)
        if rows >= _LEAST_ROWS and width >= _ONE_GRAPH and progress.epochs:
            above += [self._graphs(width - _FRAME_COLUMNS, rows), Text()]
        elif lines + 3 > options.size.height:  # the frame and the prompt: what moves comes first
            above = []
        model = f" → {progress.config.hyperparameters.model}" if progress.config else ""
        yield Panel(
            Group(*above, *below),
            title=Text(progress.job + model, style="bold not dim", overflow="ellipsis"),
            title_align="left",
            subtitle=Text(progress.state.lower(), style=_STATE_STYLES[progress.state]),
            subtitle_align="right",
            border_style="dim",
            width=width,
        )

    def _headline(self) -> Iterator[Text]:
        if self._progress.config is not None:
            for line in describe(self._progress.config):
                yield Text(line, style="dim")

    def _graphs(self, width: int, rows: int) -> Table:
        """Accuracy and loss side by side, or one of them where there is no room for two."""
        progress = self._progress
        accuracies, losses = progress.accuracies, progress.losses
        curves: list[tuple[str, str, Sequence[float], Callable[[float], str]]] = []
        if any(math.isfinite(value) for value in accuracies):
            curves.append(("Accuracy", "green", accuracies, _percent))
        if not curves or width >= _TWO_GRAPHS:
            curves.append(("Training loss", "magenta", losses, "{:.4g}".format))
        each = (width - 2 * (len(curves) - 1)) // len(curves)
        span = max(progress.epochs_asked or 0, len(losses))
        grid = Table.grid(padding=(0, 2, 0, 0))
        for _ in curves:
            grid.add_column(width=each)
        grid.add_row(*(_graph(*curve, span=span, columns=each, rows=rows) for curve in curves))
        return grid

    def _bars(self) -> Table:
        progress = self._progress
        bars = Table.grid(padding=(0, 1))
        bars.add_column(no_wrap=True)
        bars.add_column(ratio=1)
        bars.add_column(justify="right", no_wrap=True)
        bars.expand = True
        done, asked = progress.epochs_done, progress.epochs_asked
        if progress.end is None:
            share = progress.share
            bars.add_row(f"Epoch {done}", _bar(share, 1.0, "cyan"), f"{share:.0%}".replace("%", " %"))
        whole = max(asked or 0, 1)
        bars.add_row("All epochs", _bar(done + progress.share, whole, "blue"), f"{done} / {asked or '?'}")
        return bars

    def _figures(self) -> Iterator[Text]:
        progress = self._progress
        if progress.epochs:
            last, best = progress.epochs[-1], progress.best
            line = Text.assemble((str(last), "bold"))
            if last.accuracy is not None:
                line.append(f"  {_percent(last.accuracy)}", style="bold green")
            if best is not None and best.accuracy is not None:
                line.append(f"  best {_percent(best.accuracy)} in epoch {best.epoch}", style="dim")
            yield line
            if (share := _validation_accuracy(last)) is not None:
                yield Text(f"validation {_percent(share)}", style="dim")
        pace = []
        if (speed := progress.images_a_second) is not None:
            pace.append(f"{speed:,.0f} images/s")
        if (each := progress.seconds_an_epoch) is not None:
            pace.append(f"{each:.3g} s an epoch")
        if (left := progress.seconds_left) is not None:
            pace.append(f"{duration(left)} left")
        if pace:
            yield Text(" · ".join(pace))
        if (silence := progress.silence) is not None:
            yield Text(f"nothing heard of the server for {duration(silence)}", style="yellow")
        elif progress.note:
            yield Text(progress.note, style="yellow")
        elif progress.state == "QUEUED":
            yield Text("waiting for its turn", style="yellow")


def duration(seconds: float) -> str:
    """Returns seconds as people say them: '8 s', '2 min 05 s', '1 h 02 min'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def _graph(
    title: str,
    style: str,
    values: Sequence[float],
    label: Callable[[float], str],
    *,
    span: int,
    columns: int,
    rows: int,
) -> Text:
    """A titled curve, its greatest and least values at its left."""
    text = Text(f"{title}\n", style="bold", no_wrap=True)
    bounds = value_range(values)
    if bounds is None:  # nothing but NaN: the network has diverged
        return text.append("no finite value", style="yellow")
    low, high = bounds
    lines = draw_curve(values, span=span, low=low, high=high, columns=max(columns - _LABEL, 1), rows=rows)
    for index, line in enumerate(lines):
        name = label(high) if index == 0 else label(low) if index == rows - 1 else ""
        text.append(f"{name:>{_LABEL - 1}} ", style="not bold dim")
        text.append(line + ("\n" if index < rows - 1 else ""), style=f"not bold {style}")
    return text


def _bar(completed: float, total: float, style: str) -> ProgressBar:
    return ProgressBar(total=total, completed=completed, complete_style=style, finished_style="green")


def _percent(share: float) -> str:
    return f"{share:.2%}".replace("%", " %")


def _validation_accuracy(epoch: EpochFinished) -> float | None:
    if epoch.validation_correct is None or epoch.validation_total is None:
        return None
    return epoch.validation_correct / epoch.validation_total
