#!/bin/sh
# Makes .venv-estimators, where libraries of estimators and their converters lie over those of .venv, as a model's
# requirements.txt brings them; and wheels, of which a job makes the converters' environment without an index.
set -eu
cd "$(dirname "$0")/../.."
wanted=tests/system/requirements-estimators.txt
cmp -s "$wanted" .venv-estimators/.installed && exit 0
# Two that start at once: the second waits, and finds it made.
exec 9>.venv-estimators.lock
flock 9
cmp -s "$wanted" .venv-estimators/.installed && exit 0
echo "installing estimators and their converters into .venv-estimators"
rm -rf .venv-estimators
.venv/bin/python -m venv --without-pip .venv-estimators
here=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
there=$(.venv-estimators/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$here')" >"$there/zz_running_environment.pth"
.venv-estimators/bin/python -m pip install --quiet --disable-pip-version-check -r "$wanted"
.venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .venv-estimators/wheels \
    'skl2onnx==1.20.0' 'onnxmltools==1.16.0' 'protobuf>=6.33.5,<7'
cp "$wanted" .venv-estimators/.installed
