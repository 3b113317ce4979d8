"""Where a command starts."""

import gc


def main() -> None:
    """The entry point."""
    # Importing makes much and frees next to nothing: to look through it meanwhile takes a seventh of the time.
    gc.disable()
    from counterfoil.cli.main import app

    # What is imported by now stays to the end: no collection need look through it, the last one least of all.
    gc.freeze()
    gc.enable()
    app()
