#!/usr/bin/env bash
# Everything that needs a CUDA device, in one go: the marked tests, then the benchmarks; figures go to benchmarks/results.
#   benchmarks/gpu_all.sh            (PYTHON=... names another interpreter than .venv/bin/python)
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
python=${PYTHON:-.venv/bin/python}
failed=()

"$python" -m pytest -m gpu || failed+=("tests")
for name in hand_layer render_cuda rendered_data deephps dhpe vae neverova; do
  "$python" -m "benchmarks.$name" --save || failed+=("$name")
done
patches=runs/patches.safetensors
[ -f "$patches" ] || "$python" -m datamodules.patch_dictionary "$patches" --index || failed+=("dictionary")
"$python" -m benchmarks.patch_restoration --dictionary "$patches" --save || failed+=("patch_restoration")

if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
