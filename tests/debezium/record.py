"""Writes the first records of a topic as JSON lines: key and value as text, null for a tombstone."""

import json
import sys
from pathlib import Path

import kafka


def main(bootstrap: str, topic: str, count: int, file: Path) -> None:
    """Wait up to a minute for `count` records."""
    consumer = kafka.KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=60_000
    )
    lines = []
    for record in consumer:
        key, value = (part and part.decode() for part in (record.key, record.value))
        lines.append(json.dumps({"key": key, "value": value}, ensure_ascii=False))
        if len(lines) == count:
            break
    consumer.close()
    if len(lines) < count:
        raise SystemExit(f"{topic} has {len(lines)} records; {count} should be there")
    file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
