#!/bin/sh
# A saved model from the command line: sh samples/life_cycle.sh base.keras FOLDER
# Each step's exit code is its answer, so a script stops where something is wrong.
set -eu
base=$1
folder=$2

rewriter inspect "$base"                                          # what would happen, and why; writes nothing
rewriter rewrite "$base" "$folder/joint.keras" --momentum 0.9     # the input is never written to
rewriter verify "$base" "$folder/joint.keras"                     # 0: the same function, 1: not
rewriter export "$folder/joint.keras" "$folder/plain.keras"       # plain Keras, for where rewriter is not installed
rewriter verify "$base" "$folder/plain.keras"
# For programs: every command has --json.
rewriter inspect "$base" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["merge"], "layers merged")'
