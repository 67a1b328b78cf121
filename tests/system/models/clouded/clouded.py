def accept(job, served):
    """Ask the version for all of its golden requests."""
    for request in served.golden.values():
        answer = served.infer(request.inputs)
        assert {name: array.shape for name, array in answer.items()} == {
            name: array.shape for name, array in request.outputs.items()
        }
    return {"requests": len(served.golden)}
