"""The tests, and their run-time check of shape types: beartype, where an int is also a float, as for mypy."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
