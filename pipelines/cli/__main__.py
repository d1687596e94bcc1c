"""`python -m pipelines.cli` is `slipway`."""

from pipelines.cli import main

main()
