"""The `marlin` command."""
