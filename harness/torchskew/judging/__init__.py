"""Facts become outcomes, outcomes verdicts, verdicts one decision; pure."""
