#!/usr/bin/env bash
# Runs a campaign as a Slurm job array, and puts the results together in a job that depends on it.
#
#   scripts/cluster/slurm.sh CAMPAIGN.toml N DIR [sbatch option…] [-- vmm option…]
#
# Task I of the array runs `vmm campaign CAMPAIGN.toml --shard I/N --out DIR/shard-I`. A task that was
# killed, preempted or requeued goes on from what its folder holds. When all tasks have ended, however
# they did, `vmm merge` puts their folders together as DIR/merged and DIR/merged.json; it fails if a
# unit of work is missing. Submitting it again with the same DIR runs only what is missing.
#
# DIR must be on a file system that all nodes share, and every node needs /dev/kvm. Shards of different
# hosts cannot be merged, since verdicts are about a host: choose nodes that are alike (--constraint).
#
#   NMI_LAB_VMM=PATH   the binary, on the nodes (otherwise: vmm, from PATH)
#
# Prints the number of the merging job, and exits with 0 once both are submitted. The merging job's exit
# code is that of `vmm merge`: 0 if every verdict is as expected and nothing is missing.
#
#   scripts/cluster/slurm.sh scripts/campaigns/matrix.toml 16 /scratch/matrix --constraint=genoa --time=2:00:00
set -euo pipefail

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"
    exit "$1"
}
case ${1:-} in -h | --help) usage 0 ;; esac
(($# >= 3)) || usage 64
campaign=$(realpath -e -- "$1") || exit 66
tasks=$2
[[ $tasks =~ ^[1-9][0-9]*$ ]] || {
    printf 'slurm.sh: N is a number of tasks, not %s\n' "$tasks" >&2
    exit 64
}
mkdir -p -- "$3"
dir=$(realpath -e -- "$3")
shift 3
sbatch_options=() vmm_options=()
while (($#)); do
    [[ $1 != -- ]] || { shift && vmm_options=("$@") && break; }
    sbatch_options+=("$1")
    shift
done
command -v sbatch >/dev/null || {
    printf 'slurm.sh: sbatch is missing; run this where jobs are submitted\n' >&2
    exit 69
}
vmm=${NMI_LAB_VMM:-vmm}

# A script in which only the task's number is left to the node.
shard="exec $(printf '%q ' "$vmm" campaign "$campaign" ${vmm_options[@]+"${vmm_options[@]}"})"
shard+=" --jobs \"\${SLURM_CPUS_PER_TASK:-1}\" --shard \"\$SLURM_ARRAY_TASK_ID/$tasks\""
shard+=" --out $(printf '%q' "$dir/shard-")\$SLURM_ARRAY_TASK_ID"
# Shards that left nothing must be missed, too: each is named.
folders=()
for ((i = 0; i < tasks; i++)); do folders+=("$dir/shard-$i"); done
merge="set -e; rm -rf $(printf '%q' "$dir/merged")
exec $(printf '%q ' "$vmm" merge "${folders[@]}" --out "$dir/merged" --format text --format "json=$dir/merged.json")"

submit() { # SCRIPT sbatch option…
    local script=$1
    shift
    sbatch --parsable "$@" <<<"#!/bin/bash"$'\n'"$script" | cut -d';' -f1
}
array=$(submit "$shard" --job-name=nmi-lab --requeue --open-mode=append --array="0-$((tasks - 1))" \
    --output="$dir/shard-%a.log" ${sbatch_options[@]+"${sbatch_options[@]}"})
# afterany: a verdict that is not as expected ends a task with 1, and belongs into the whole all the same.
merging=$(submit "$merge" --job-name=nmi-lab-merge --dependency="afterany:$array" --output="$dir/merged.log" \
    ${sbatch_options[@]+"${sbatch_options[@]}"})
printf '%s\n' "$merging"
printf 'array %s of %d tasks, then merging job %s; the result will be %s\n' "$array" "$tasks" "$merging" "$dir/merged.json" >&2
