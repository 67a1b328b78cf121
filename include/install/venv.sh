#!/bin/sh
# Makes .venv with what demo and tests need of requirements.txt, and this clone, and says how far it is:
# sh include/install/venv.sh
# PYTHON is the Python to take (default: python3.11). TORCH_INDEX is an index to take torch from, such as
# https://download.pytorch.org/whl/cpu, whose build brings no CUDA.
set -eu
cd "$(dirname "$0")/../.."
venv=.venv
hashed=include/install/requirements-hashed.txt
total=$(grep -c "^[a-z0-9].*==" "$hashed")
torch=$(grep '^torch==' requirements.txt)
mkdir -p "$venv"
log=$venv/install.log
: >"$log"

say() { echo "[$1/4] $2"; }

# Run a command into the log and show what it fetches; its status is this one's.
shown() {
    seen=0
    { status=0; "$@" 2>&1 || status=$?; echo "exit status $status"; } | tee -a "$log" | while IFS= read -r line; do
        case $line in
            *Collecting\ *)
                seen=$((seen + 1))
                [ $((seen % 20)) -ne 1 ] || echo "      $seen of about $total: ${line#*Collecting }" ;;
            *Downloading*\([0-9][0-9]*M*B\)* | *Downloading*G*B\)*) echo "      ${line#"${line%%[![:space:]]*}"}" ;;
            Installing\ collected*) echo "      unpacking them" ;;
            Resolved\ * | Prepared\ * | Installed\ *) echo "      $line" ;;
            "exit status "*) exit "${line##* }" ;;
        esac
    done
}

pip_install() { shown "$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off "$@"; }

failed() {
    tail -n 15 "$log" >&2
    echo "the installation failed; all that it printed is in $log. Run the same command again to continue." >&2
    exit 1
}

say 1 "a virtual environment in $venv"
# Half of one, as of an interrupt, has no pip.
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "${PYTHON:-python3.11}" -m venv --clear "$venv"
: >"$log"

say 2 "$total packages, by the digests of their files"
# uv, one of them, needs a tenth of pip's CPU time for the others; it does not look everywhere where pip does.
awk '/^uv==/ { on = 1; print; next } on && /^ / { print; next } { on = 0 }' "$hashed" >"$venv/uv.txt"
{ pip_install --require-hashes --requirement "$venv/uv.txt" &&
    # Where PYTHONDONTWRITEBYTECODE is set, each process would compile all that it imports.
    shown "$venv/bin/python" -m uv pip install --python "$venv/bin/python" --compile-bytecode \
        --require-hashes --requirement "$hashed"; } ||
    # Also as constraints: for an extra that a package requires, such as celery[redis], pip 23 otherwise takes the newest.
    pip_install --require-hashes --requirement "$hashed" --constraint "$hashed" || failed

# Its builds have one version and other files, so no digest fits all; what it needs besides is here already.
if [ -n "${TORCH_INDEX:-}" ]; then
    say 3 "$torch from $TORCH_INDEX"
    pip_install --no-deps --index-url "$TORCH_INDEX" "$torch" || failed
else
    say 3 "$torch, on Linux with CUDA unless TORCH_INDEX names the index of another build"
fi
pip_install --constraint requirements.txt "$torch" || failed

say 4 "this clone"
pip_install --no-deps --no-build-isolation --editable . || failed
touch "$venv/.ready"
