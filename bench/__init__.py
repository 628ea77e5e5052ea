"""Benchmarks: Tidegate beside its peers, in one run on one machine.

`python -m bench` from the top of the checkout; `python -m bench.soak` holds connections for long.
Linux only: the memory comes from /proc and the load generator is written for epoll.
"""
