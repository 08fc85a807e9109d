"""What a trace holds on to of its size, which sizes the module takes, and how its graph is freed."""
