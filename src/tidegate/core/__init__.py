"""Policy: who gets in, who is alive, what is counted. No I/O and no clock of its own."""
