#!/bin/bash
# Training on one node of eight cards under Slurm:   sbatch tools/launch/slurm.sh RECIPE [OPTION...]     (options of lacuna train)
# Five minutes before the time limit the ranks save a checkpoint; the job goes back into the queue and resumes. LACUNA names the program. For another number of cards, `sbatch --ntasks-per-node=N --gpus-per-node=N tools/launch/slurm.sh ...`.
#SBATCH --job-name=lacuna
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=lacuna-%j.out
set -uo pipefail

# --gpu-bind=none: every rank sees all cards, and takes its own.
srun --mpi=pmix --gpu-bind=none --kill-on-bad-exit=1 "${LACUNA-build/cuda-release/bin/lacuna}" train "$@" --resume
status=$?
# 138: stopped by the signal, with a checkpoint. Any other failure is for somebody to look at.
if [ "$status" -eq 138 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
