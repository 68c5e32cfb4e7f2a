"""One batch over one or several processors, in chunks; and the programs compiled for them."""
