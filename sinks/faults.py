"""What a contract finds wrong with a record, in one line."""

from __future__ import annotations

from pydantic import ValidationError

__all__ = ["faults_of"]


def faults_of(exc: ValidationError) -> str:
    """`field: what is wrong`, for each fault. The record's own values are not repeated."""
    return "; ".join(
        f"{'.'.join(map(str, error['loc'])) or 'record'}: {error['msg']}"
        for error in exc.errors(include_url=False, include_input=False)
    )
