#!/usr/bin/env bash
# Train on all GPUs of this machine; without one, on its cores. Run again, it goes on where it was.
#
#   DATA=curated OUT=run examples/one_machine.sh --batch-size 4096 --steps 20000
#
#   DATA       a selection, a curated folder that holds one, or raw shards
#   OUT        the run's folder
#   RECIPE     clip, psd, diht, ... (`winnow train` lists them); default: clip
#   PROCESSES  how many; default: one for each GPU
#   RESTARTS   how often a crashed process may be replaced: all go on from the newest checkpoint
#
# What follows the script's name are options of `winnow train`.
set -euo pipefail

exec torchrun --standalone --nproc-per-node "${PROCESSES:-auto}" \
  --max-restarts "${RESTARTS:-0}" --no-python -- \
  winnow train "${RECIPE:-clip}" --data "${DATA:?}" --out "${OUT:?}" "$@"
