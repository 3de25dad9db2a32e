# Sourced by the scripts beside it: goes to the checkout and makes its .venv current.
# shellcheck shell=bash

name=scripts/$(basename -- "$0")
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
if [ "$(pwd -P)" != "$root" ]; then
  echo "$name: working in $root" >&2
  cd -- "$root"
fi

# The first Python that fits: $PYTHON if set, else the machine's own python3, else the newest.
find_python() {
  local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11 python)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; then
      command -v -- "$candidate"
      return
    fi
  done
  if [ -n "${PYTHON:-}" ]; then
    echo "$name: \$PYTHON ($PYTHON) is not a Python from 3.11 to 3.14" >&2
  else
    echo "$name: no Python from 3.11 to 3.14 found on the path; install one, or name it: PYTHON=/path/to/python $name" >&2
  fi
  return 1
}

# install_venv EXTRA…: .venv with the project, editable, and those extras.
install_venv() {
  local python
  python=$(find_python) || exit 1
  "$python" scripts/install.py "$@" || exit $?
}
