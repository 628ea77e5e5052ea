"""What a load needs of a machine, with the arithmetic.

`workload` is what is asked for, and `needs` has a formula for each thing that costs something.
`bottlenecks` compares the sums with what a machine has, and `rendering` prints both. Nothing here
looks at a machine: facts, settings and costs are given.
"""
