"""Computing history again beside what was recorded, never over it."""

from __future__ import annotations

from marlin.restatement.core import Kind, Restatement, compute

__all__ = ["Kind", "Restatement", "compute"]
