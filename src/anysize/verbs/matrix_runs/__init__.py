"""The jobs of a matrix: what they are, what their results depend on, and the processes that run them."""
