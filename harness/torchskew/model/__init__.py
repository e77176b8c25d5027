"""The words of the design as frozen records and enums: data that flows between the rooms; no behaviour."""
