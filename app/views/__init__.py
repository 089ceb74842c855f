"""The pages, each a description of what it shows."""
