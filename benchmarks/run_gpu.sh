#!/bin/bash
# The first run on a machine with a GPU, from the root of a checkout: bash benchmarks/run_gpu.sh
# Each stage is a process of its own with its own time limit; none starts once $BUDGET seconds
# (default 330) are gone. Output and figures go to $OUT (default build/gpu).
# --dry runs every stage on the CPU in small form.
set -u
cd "$(dirname "$0")/.." || exit 1
PYTHON=${PYTHON:-python3}
BUDGET=${BUDGET:-330}
export OUT=${OUT:-build/gpu} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=.:plugins
dry=
[ "${1:-}" = --dry ] && dry=--dry
mkdir -p "$OUT"
start=$(date +%s)
status=0

stage() { # stage NAME LIMIT_S COMMAND...
  local name=$1 limit=$2 left=$((BUDGET - $(date +%s) + start)) code
  shift 2
  [ "$left" -lt "$limit" ] && limit=$left
  if [ "$limit" -lt 5 ]; then
    echo "##### $name: no time left"
    return
  fi
  echo "##### $name (at most $limit s)"
  timeout -k 5 "$limit" "$@" 2>&1
  code=$?
  [ "$code" -ne 0 ] && status=1
  echo "##### $name: exit $code after $(($(date +%s) - start)) s"
}

first() { # first NAME LIMIT_S [OPTION...]
  stage "$1" "$2" "$PYTHON" -m benchmarks.gpu_first $dry "${@:3}" "$1"
}

run() {
  first env 60
  if [ -n "$dry" ]; then
    # The bodies of the tests run on the CPU in the suite; here, that they are found.
    stage tests 120 "$PYTHON" -m pytest tests/gpu -m gpu -q --collect-only -p no:cacheprovider
  else
    stage tests 120 "$PYTHON" -m pytest tests/gpu -m gpu -q --tb=short --maxfail=12 \
      -o filterwarnings=default -p no:cacheprovider
  fi
  first right 100
  first kernels 45
  first steps 120 --limit 85
  first pairwise 30
  first million 90
  return "$status"
}

run | tee "$OUT/log.txt"
exit "${PIPESTATUS[0]}"
