#!/bin/sh
# Makes .venv-estimators, where libraries of estimators and their converters lie over those of .venv, as a model's
# requirements.txt brings them; and wheels, of which a job makes the converters' environment without an index.
set -eu
name=estimators what="estimators and their converters"
. "$(dirname "$0")/new_environment.sh"
.venv/bin/python -m venv --without-pip .venv-estimators
here=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
there=$(.venv-estimators/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "import site; site.addsitedir('$here')" >"$there/zz_running_environment.pth"
.venv-estimators/bin/python -m pip install --quiet --disable-pip-version-check -r "$wanted"
.venv/bin/python -m pip download --quiet --disable-pip-version-check --no-deps --dest .venv-estimators/wheels \
    'skl2onnx==1.20.0' 'onnxmltools==1.16.0' 'protobuf>=6.33.5,<7'
cp "$wanted" .venv-estimators/.installed
