#!/usr/bin/env bash
# Everything of sclin that needs a GPU, in one run of at most 8 minutes.
#
#   benchmarks/gpu_check.sh pack    where there is a network: wheels, arrays and real cells, into .gpu/
#   benchmarks/gpu_check.sh         on a bare machine with a GPU, torch and transformers; fetches nothing
#
# PYTHON_VERSION names the Python of that machine (3.12), OUT the folder for the tables (.gpu/out).
set -euo pipefail
cd "$(dirname "$0")/.."
here=.gpu

if [ "${1:-}" = pack ]; then
  mkdir -p $here/wheels
  version=${PYTHON_VERSION:-3.12}
  platforms=(--platform any)
  for glibc in 2_28 2_24 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
  .venv/bin/python -m pip download --quiet --no-deps --only-binary=:all: --dest $here/wheels \
    --implementation cp --python-version "$version" "${platforms[@]}" --platform manylinux2014_x86_64 \
    $(.venv/bin/python -m pip freeze | grep -iE '^(anndata|zarr|numcodecs|donfig|google-crc32c|h5py|natsort|legacy-api-wrap|array-api-compat|pooch|platformdirs|jsonschema|jsonschema-specifications|referencing|rpds-py|scverse-misc|pandas|pytz|tzdata|python-dateutil|six|attrs)==')
  .venv/bin/python -m pip wheel --quiet --no-deps --wheel-dir $here/wheels .  # for its version
  rm -rf $here/fixtures && cp -rL "$SCLIN_FIXTURES" $here/fixtures && chmod -R u+w $here/fixtures
  find $here/fixtures -name '*single.npz' -o -name '*hidden_states.npz' | xargs rm -f
  .venv/bin/python benchmarks/gpu_check.py pack $here
  du -sh $here
  exit
fi

python=${PYTHON:-python3}
export OUT=${OUT:-$here/out}
mkdir -p "$OUT"
$python -m pip install --quiet --no-index --no-deps --no-compile --upgrade --target $here/site $here/wheels/*.whl
export PYTHONPATH=$PWD/src:$PWD/$here/site PYTHONUNBUFFERED=1
$python benchmarks/gpu_check.py run $here
