class BadInput(Exception):
    """Something the user can mend, in one line: what is wrong, where, what to do. A script shows it and exits with 2."""
