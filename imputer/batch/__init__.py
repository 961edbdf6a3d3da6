"""Many cases: the plan, the ledger, and the run that resumes."""
