"""A live view of a server and of the machine's connections.

`server` reads our admin API and `kernel` the tables of TCP, both into the values of `sample`;
`screen` draws them, and `session` is what keys do.
"""
