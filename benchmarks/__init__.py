"""Measurements a reader can repeat; each module is a command and prints what README and docs quote."""
