"""Loading the user's own functions, named as ``package.module:function`` in a setting."""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from counterfoil.errors import ConfigurationError


def load_function(setting: str, named: str) -> Callable[..., Any]:
    """Import a function. The working folder is looked at last, so that a file in it hides nothing installed.

    Args:
        setting: the setting's name, for the message.
        named: ``package.module:function``.

    Raises:
        ConfigurationError: there is no such function, its module cannot be imported, or it is asynchronous.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    module, _, name = named.partition(":")
    try:
        found: Callable[..., Any] | None = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        raise ConfigurationError(
            f"{setting}: {module} cannot be imported ({type(error).__name__}: {error}); install it, or start in "
            "the folder that holds it"
        ) from error
    if not callable(found):
        raise ConfigurationError(f"{setting}: {module} has no function {name}; write package.module:function")
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(getattr(found, "__call__", None)):  # noqa: B004
        raise ConfigurationError(f"{setting}: {named} is asynchronous; it must be a plain function (def)")
    return found
