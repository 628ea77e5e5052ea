"""Several workers on one port: a supervisor that starts them, replaces them and adds them up.

    supervisor -- owns the listening sockets, the admin listener and the settings
      |-- link --> worker 1: one node, with an admin API on a Unix socket of a private folder
      |-- link --> worker 2

A worker is a process of its own that is told everything over its link, a pair of sockets, and ends
when the link does. What operators ask is asked of every worker, and the answers are merged.
"""
