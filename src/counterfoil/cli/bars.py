"""Progress bars, with the rate and the time left, on standard error."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from counterfoil.audit.progress import Progress

_EVERY = 0.25


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="dim")


@asynccontextmanager
async def shown(progress: Progress, *, quiet: bool) -> AsyncIterator[None]:
    """Draw ``progress`` while the block lasts; ``quiet``, or not on a terminal: nothing is drawn."""
    console = Console(stderr=True, highlight=False)
    if quiet or not console.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        drawing = asyncio.create_task(_draw(bars, progress))
        try:
            yield
        finally:
            drawing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drawing


async def _draw(bars: Bars, progress: Progress) -> None:
    drawn: dict[str, int] = {}
    while True:
        for name, stage in list(progress.stages.items()):
            if stage.done or stage.total or stage.ended:
                if name not in drawn:
                    drawn[name] = int(bars.add_task(name, total=None))
                total = stage.done if stage.ended else stage.total
                bars.update(drawn[name], completed=stage.done, total=total)  # type: ignore[arg-type]
        await asyncio.sleep(_EVERY)
