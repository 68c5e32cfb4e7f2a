"""A diagnosis as files: one page that needs nothing else, its pictures, and every number."""
