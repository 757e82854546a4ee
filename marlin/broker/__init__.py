"""The broker: the embedded one, and how a real one is reached."""
