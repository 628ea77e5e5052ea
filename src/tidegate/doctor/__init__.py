"""What is wrong with a machine that should hold many connections, and what fixes it.

`reading` reads facts, or they come from a file; each check is a function from facts and a load to
findings; `rendering` shows them.
"""
