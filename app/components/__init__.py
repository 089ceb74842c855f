"""Custom components of the workbench."""
