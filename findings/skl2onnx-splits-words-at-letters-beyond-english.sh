#!/bin/sh
# skl2onnx 1.20.0 (scikit-learn 1.9.1, ONNX Runtime 1.31.1): to_onnx of a CountVectorizer or TfidfVectorizer as it is made,
# fitted on words with letters beyond a to z, succeeds and says nothing, but the program splits words at those letters and
# counts none of them: "größe" and "übel" are 1 and 1 in scikit-learn, 0 and 0 in the program. Words of English are right.
# With the option tokenexp [\p{L}\p{N}_]{2,} they are right, too.
# Matters to whoever serves a classifier of texts in another language than English. (The locale is set to one that small
# images have, see onnxruntime-text-needs-the-locale-en-us.sh; the numbers do not depend on it.)
# Exits 0 while this is so, 1 when it changes.
set -e
work=$(mktemp -d -t finding-XXXXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet skl2onnx==1.20.0 scikit-learn==1.9.1 onnx==1.23.2 onnxruntime==1.31.1
"$work/venv/bin/python" -W ignore - <<'PY'
import sys

import numpy
import onnxruntime
import skl2onnx
from sklearn.feature_extraction.text import CountVectorizer

texts = ["größe und übel"]
vectorizer = CountVectorizer().fit(texts)
types = [("x", skl2onnx.common.data_types.StringTensorType([None, 1]))]


def counts(**words):
    options = {id(vectorizer): {"locale": "C.UTF-8", **words}}
    program = skl2onnx.to_onnx(vectorizer, initial_types=types, options=options)
    session = onnxruntime.InferenceSession(program.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": numpy.array([texts], dtype=object)})[0].ravel().astype(int).tolist()


found = {
    "scikit-learn": vectorizer.transform(texts).toarray().ravel().tolist(),
    "the program": counts(),
    "with tokenexp": counts(tokenexp=r"[\p{L}\p{N}_]{2,}"),
}
print(vectorizer.get_feature_names_out().tolist())
for name, each in found.items():
    print(f"{name}: {each}")
same = list(found.values()) == [[1, 1, 1], [0, 1, 0], [1, 1, 1]]
print("as described" if same else "this has changed")
sys.exit(0 if same else 1)
PY
