"""The steps of a validation: what the reference answers, the runtimes' sessions, one comparison a cell."""
