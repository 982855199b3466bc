"""`python -m mmmos` is the command `mmmos`."""

from mmmos.cli import main

main()
