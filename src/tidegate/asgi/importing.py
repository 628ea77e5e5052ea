"""Finds an ASGI application by its name, and says what is wrong when there is none."""

from __future__ import annotations

import importlib
import sys
import textwrap
import traceback
from typing import TYPE_CHECKING, Any, Final

from uvicorn import importer

from tidegate.errors import ConfigError, TidegateError

if TYPE_CHECKING:
    from tidegate.asgi.types import AsgiApp

__all__ = ["import_application", "import_object"]

_OURS: Final = {__file__, importer.__file__, importlib.__file__}


def import_application(
    app: AsgiApp | str, *, factory: bool = False, directory: str | None = None
) -> Any:
    """Return the application.

    Args:
        app: the application itself, or where it is: "module:name".
        factory: whether it is a function that makes the application.
        directory: where the module is looked for first.

    Raises:
        ConfigError: there is no such application.
        TidegateError: the module or the factory raised. The text has the traceback of that.
    """
    name = app if isinstance(app, str) else getattr(app, "__name__", type(app).__name__)
    found = import_object(app, directory)
    if not callable(found):
        raise ConfigError(f"{name}: it is no application, but of type {type(found).__name__}")
    if not factory:
        return found
    try:
        return found()
    except Exception as error:
        raise TidegateError(f"{name}: the factory failed\n{_trace(error)}") from error


def import_object(name: Any, directory: str | None = None) -> Any:
    """Return what is at "module:name"; what is no text is returned as it is.

    Args:
        directory: where the module is looked for first.

    Raises:
        ConfigError: there is nothing of this name.
        TidegateError: the module raised. The text has the traceback of that.
    """
    if directory is not None:
        sys.path.insert(0, directory)
    try:
        return importer.import_from_string(name)
    except importer.ImportFromStringError as error:
        raise ConfigError(f"{name}: {error}") from None
    except Exception as error:
        raise TidegateError(f"{name}: it cannot be imported\n{_trace(error)}") from error


def _trace(error: Exception) -> str:
    """The traceback, from where the application's own code begins."""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if file not in _OURS and not file.startswith("<frozen importlib"):
            break
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    return textwrap.indent(text, "    ")
