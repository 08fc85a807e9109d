"""Where a model's bytes lie: reading files without trusting them, and writing them without a copy."""
