"""The dashboard on the admin listener: its files, and who may see them."""
