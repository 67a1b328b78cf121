"""What an object store answers to a worker has its kind of failure, and says what to do."""

import pytest
from modelway.backends.folders.object_store import translate_errors
from modelway.errors import SubmitFailed
from modelway.failures import FailureKind

#: as gcsfs says it of a call without credentials, and of an account without the role
ANONYMOUS = "Anonymous caller does not have storage.objects.create access to the Google Cloud Storage object., 401"
FORBIDDEN = "Forbidden: https://storage.googleapis.com/b\njobs@p1.iam.gserviceaccount.com does not have access"


@pytest.mark.parametrize(
    ("uri", "error", "kind", "said"),
    [
        (
            "gs://b/x",
            OSError(ANONYMOUS),
            FailureKind.FORBIDDEN,
            "refuses .* GOOGLE_APPLICATION_CREDENTIALS .* not used",
        ),
        ("gs://b/x", OSError(FORBIDDEN), FailureKind.FORBIDDEN, "refuses .* roles/storage.objectUser on the bucket"),
        ("gs://b/x", OSError("timed out"), FailureKind.UNREACHABLE, "does not answer.* GOOGLE_APPLICATION_CREDENTIALS"),
        ("gs://b/x", FileNotFoundError("b"), FailureKind.REFUSED, "Check that the bucket is there"),
        ("s3://b/x", PermissionError("Access Denied"), FailureKind.FORBIDDEN, "refuses .* AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_store_that_refuses_or_does_not_answer_says_what_to_do(
    uri: str, error: Exception, kind: FailureKind, said: str
) -> None:
    with pytest.raises(SubmitFailed, match=said) as refused, translate_errors(uri):
        raise error
    assert refused.value.kind is kind
    with pytest.raises(SubmitFailed) as later, translate_errors(uri, submitted=True):
        raise error
    assert later.value.kind is FailureKind.UNREACHABLE, "that says nothing of a job that runs"
