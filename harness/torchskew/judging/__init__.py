"""Facts become outcomes, a verdict, then one decision. Pure."""
