"""The shape of every tensor at an image size, and the sizes at which a graph works."""
