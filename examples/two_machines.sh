#!/usr/bin/env bash
# Train on several machines: run the same line on each of them, within a few minutes.
#
#   HEAD=first-machine:29500 MACHINES=2 DATA=curated OUT=run examples/two_machines.sh --steps 20000
#
#   HEAD       one of the machines and a free port on it, the same everywhere
#   MACHINES   how many; default: 2
#   RUN_ID     any word, the same everywhere; default: winnow
#   DATA, OUT, RECIPE, PROCESSES, RESTARTS: as in one_machine.sh. OUT is a folder that all machines
#   see. DATA is one too, or the same on each.
set -euo pipefail

exec torchrun --nnodes "${MACHINES:-2}" --nproc-per-node "${PROCESSES:-auto}" \
  --rdzv-backend c10d --rdzv-endpoint "${HEAD:?}" --rdzv-id "${RUN_ID:-winnow}" \
  --max-restarts "${RESTARTS:-0}" --no-python -- \
  winnow train "${RECIPE:-clip}" --data "${DATA:?}" --out "${OUT:?}" "$@"
