"""Loads records into ClickHouse and runs the queries of deploy/sql.

Usage: queries.py SQL_FOLDER RECORDS_FOLDER; the records of node N are in N.ndjson. Prints one JSON object:
the rows of each query by its file's name, and how many rows each table has.
"""

import json
import pathlib
import sys
import tempfile

from chdb.session import Session


def statements(text):
    lines = [line for line in text.splitlines() if not line.strip().startswith("--")]
    return [part.strip() for part in "\n".join(lines).split(";") if part.strip()]


def rows(session, query):
    text = str(session.query(query, "JSONEachRow"))
    return [json.loads(line) for line in text.splitlines() if line]


def main():
    sql, records = map(pathlib.Path, sys.argv[1:3])
    with tempfile.TemporaryDirectory() as folder:
        session = Session(folder)
        session.query("CREATE DATABASE fleet ENGINE = Atomic")
        session.query("USE fleet")
        for statement in statements((sql / "schema.sql").read_text()):
            session.query(statement)
        for file in sorted(records.glob("*.ndjson")):
            # Twice: delivery is at least once, and repeats must change nothing.
            for _ in range(2):
                session.query(
                    f"INSERT INTO records (node, line) SELECT '{file.stem}', line "
                    f"FROM file('{file}', 'LineAsString', 'line String')"
                )
        found = {
            "tables": {
                table: rows(session, f"SELECT count() AS n FROM {table} FINAL")[0]["n"]
                for table in ("alerts", "flows")
            }
        }
        for file in sorted(sql.glob("*.sql")):
            if file.name != "schema.sql":
                [query] = statements(file.read_text())
                found[file.stem] = rows(session, query)
        print(json.dumps(found))


main()
