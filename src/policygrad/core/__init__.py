"""What everything stands on: the record, how modules split, errors, checks."""
