"""Policy gradients on JAX: train, measure and prove them."""
