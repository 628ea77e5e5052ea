"""Messages by chance in every format, right and wrong: only what the tables know comes back."""
