"""The errors that Tidegate raises, by whose fault they are."""

from __future__ import annotations

__all__ = ["BackplaneError", "ConfigError", "PeerError", "TidegateError", "UsageError"]


class TidegateError(Exception):
    """The base of every error that Tidegate raises on purpose."""


class ConfigError(TidegateError):
    """A setting is wrong. The text names the setting, its value and what is allowed."""


class PeerError(TidegateError):
    """The other side broke the protocol. The text is safe to send back to it."""


class UsageError(TidegateError):
    """The calling code used Tidegate wrongly; fix the call."""


class BackplaneError(TidegateError):
    """What carries messages between nodes failed or could not be reached."""
