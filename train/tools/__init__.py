"""Commands beside training: demo, prepare, contact_sheet."""
