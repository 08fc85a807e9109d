"""What a model is asked: its signature, the sizes and batches, and images from seeds."""
