"""Reads Avro files with a library that knows nothing of holdfast, and prints each entry as a line
of JSON: the file, the fields, the payload as an array of bytes or as text.

argv[1] names the library, fastavro or avro; the others are the files.
"""

import json
import sys


def records(library, file):
    if library == "fastavro":
        import fastavro

        yield from fastavro.reader(file)
    else:
        from avro.datafile import DataFileReader
        from avro.io import DatumReader

        yield from DataFileReader(file, DatumReader())


library, *paths = sys.argv[1:]
if not paths:
    __import__(library)
for path in paths:
    with open(path, "rb") as file:
        for record in records(library, file):
            payload = record["payload"]
            print(json.dumps({
                "file": path,
                "sequence": str(record["sequence"]),
                "id": record["id"],
                "op": record["op"],
                "timestamp": record["timestamp"],
                "payload": payload if isinstance(payload, str) else list(payload),
            }))
