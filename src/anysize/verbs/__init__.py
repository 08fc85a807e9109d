"""What a user does, one file per verb: the Python API, which the command line calls as well."""
