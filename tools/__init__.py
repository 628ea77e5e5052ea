"""Programs that write generated files and the documentation."""
