"""Pictures of runs, of measured noise and of exact tables; the doctor's page."""
