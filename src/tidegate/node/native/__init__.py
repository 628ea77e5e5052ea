"""The native protocol, version 1: what each message of a client does, a file for each group."""
