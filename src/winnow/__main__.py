"""`python -m winnow`, for torchrun: `torchrun --nproc-per-node 8 -m winnow evaluate ...`."""

from winnow.cli import main

main()
