"""`python -m services.cli` is `multifacet`."""

from services.cli.main import main

main()
