"""How far an answer may be from float64, how far it is, and what is said of it."""
