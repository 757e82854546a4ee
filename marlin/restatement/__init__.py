"""Computing history again beside what was recorded, never over it."""
