"""Pure maths on arrays: returns, advantages, distributions, intervals."""
