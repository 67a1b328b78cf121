"""The messages that the stubs of a client know, as JSON: message to field to its number and type; * is a list."""

import json
import sys
from typing import Any

if sys.argv[1] == "kserve":
    from kserve.protocol.grpc.grpc_predict_v2_pb2 import DESCRIPTOR
else:
    from tritonclient.grpc.service_pb2 import DESCRIPTOR

#: names of protobuf's types by their number
NUMBERS = {
    1: "double",
    2: "float",
    3: "int64",
    4: "uint64",
    5: "int32",
    8: "bool",
    9: "string",
    12: "bytes",
    13: "uint32",
}


def kind(field: Any) -> str:
    if field.message_type is None:
        plain = NUMBERS.get(field.type, "other")
    elif field.message_type.GetOptions().map_entry:
        return f"map:{field.message_type.fields_by_name['value'].message_type.name}"
    else:
        plain = field.message_type.name
    return plain + "*" * field.is_repeated


found: dict[str, Any] = {}


def add(message: Any) -> None:
    found[message.name] = {field.name: [field.number, kind(field)] for field in message.fields}
    for nested in message.nested_types:
        add(nested)


for message in DESCRIPTOR.message_types_by_name.values():
    add(message)
print(json.dumps(found))
