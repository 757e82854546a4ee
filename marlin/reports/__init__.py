"""ESG reports from the ledger."""
