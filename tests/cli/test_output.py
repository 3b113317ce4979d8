"""What others wrote, on the screen."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from counterfoil.cli.output import plain

HOSTILE = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "\x9b2J",
    "\\[/x]",
    "[/]",
    "[bold]",
    "a\\",
    "\\\\[red]",
    "\u202egnp.exe",
    "a\rb",
]


def shown(text: str) -> str:
    """What a terminal would be sent, in a table and after a mark-up of our own."""
    console = Console(file=io.StringIO(), highlight=False, force_terminal=False, width=4_000)
    table = Table(show_header=False, box=None)
    table.add_row("name", plain(text))
    console.print(table)
    console.print(f"[bold]error:[/] {plain(text)}[dim]!")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_neither_breaks_the_screen_nor_commands_the_terminal(text: str) -> None:
    told = shown(text)
    assert all(each.isprintable() or each == "\n" for each in told)
    visible = "".join(each for each in text if each.isprintable())
    assert visible.strip() in told.replace("\ufffd", "")


@given(st.text(max_size=40) | st.text(alphabet="[]/\\ab\x1b", max_size=12))
def test_any_text_can_be_shown(text: str) -> None:
    assert all(each.isprintable() or each == "\n" for each in shown(text))
