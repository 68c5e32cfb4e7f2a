"""Workers on this machine or on many, by Ray. Importing this package imports no JAX."""
