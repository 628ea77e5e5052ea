"""How much a machine holds: real connections and messages, more and more, until it is too much.

cli/capacity -> plan -> search (knee) -> Generator (a process of its own) -> the server
                  |                                                           |
                  +-> report, picture, writing          target: its figures <-+
"""
