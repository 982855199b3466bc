"""One case for each row of the table of faults: what bad input and broken runs get."""
