#!/bin/sh
# node_cases.sh ROOT RUNNER FOLDER: writes the operator cases and runs them. The Python must have
# onnx and onnxruntime: $SHRINKD_PYTHON, or .venv in the source folder, which ./check makes.
root=$1 runner=$2 folder=$3
python=${SHRINKD_PYTHON:-$root/.venv/bin/python}
if ! "$python" -c 'import onnx, onnxruntime' 2>/dev/null; then
    echo "Bail out! $python has no onnx and onnxruntime: run ./check, or set SHRINKD_PYTHON"
    exit 1
fi
if ! "$python" "$root/tests/harness/node_cases.py" "$folder" >&2; then
    echo "Bail out! the cases could not be written"
    exit 1
fi
exec "$runner" "$folder"
