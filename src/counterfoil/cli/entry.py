"""Where a command starts."""

import gc


def main() -> None:
    """The entry point."""
    # Importing makes much and frees next to nothing: to look through it meanwhile takes a seventh of the time.
    gc.disable()
    from counterfoil.cli.main import app

    # What is imported by now stays to the end: no collection need look through it, the last one least of all.
    gc.freeze()
    # Little is ever in a cycle: looked for after 700 new objects, as is usual, they cost each delivery 3 us.
    gc.set_threshold(20_000)
    gc.enable()
    app()
