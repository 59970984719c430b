#!/usr/bin/env bash
# Measures the encoder on a GPU machine that has Python with PyTorch and no network; see docs/gpu.md.
# Usage: run.sh [--receive] [--cpu] [--quick] [--pack FOLDER] [--out FOLDER] …; run.sh --help lists all options.
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "${BASH_SOURCE[0]}")/start.py" "$@"
