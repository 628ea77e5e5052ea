"""Who gets which message: rooms and their members."""
