"""`python -m onetrunk`."""

from onetrunk.cli import main

main()
