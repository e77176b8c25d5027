"""The words of the design as frozen records and enums: data without behaviour."""
