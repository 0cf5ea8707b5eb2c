"""What schemathesis sends: integers without a decimal point.

To JSON Schema 3.0 is an integer. It is none where a tensor has integers: TF Serving, Triton and kit refuse it, and no
schema can say so.
"""

import schemathesis


@schemathesis.hook
def map_body(context, body):
    return write_integers(body)


def write_integers(value):
    if isinstance(value, dict):
        return {name: write_integers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [write_integers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
