"""The peers of `python -m bench pipeline`: the same sessions and the same Recommender in other stream processors.

Run as `python -m bench.pipeline.peers NAME PROCESS CONFIG`, where PROCESS is a number below config["processes"]. Each
process reads its share of the topic until it is stopped. All but `loop` and `encoder` run in the peers' environment,
which has the peers and what udfs needs, but no Flink.
"""

# mypy: disallow-subclassing-any=False, disallow-any-unimported=False, disallow-untyped-decorators=False

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from bench.pipeline.sessions import Answers, Due, Shopper, write_stats

#: bootstrap, clickstream, recommendations, bundles, processes, threads (per process), folder, jars, ports, events.
Config: TypeAlias = Mapping[str, Any]

#: Settings that differ from the peers' defaults.
LOOP_RECORDS = 1000
BYTEWAX_BATCH = 1000
QUIX_COMMIT_EVERY = 2000
SPARK_OFFSETS = 20_000
SPARK_BATCHES = 10  # at least this many micro-batches
SPARK_ROWS = 2000
SPARK_MEMORY = "2g"

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


def _answers(config: Config) -> Answers:
    return Answers(config["bundles"], config["threads"], config["folder"])


# --- a loop -----------------------------------------------------------------------------------------------------------


def run_loop(config: Config, process: int) -> None:
    """Run kafka-python alone: poll, sessions in a dictionary, one batch of answers, flush, commit."""
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition

    topic = config["clickstream"]
    consumer = KafkaConsumer(
        bootstrap_servers=config["bootstrap"],
        group_id=config["recommendations"],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_poll_records=LOOP_RECORDS,
        max_partition_fetch_bytes=8_388_608,
    )
    partitions = sorted(consumer.partitions_for_topic(topic))[process :: config["processes"]]
    consumer.assign([TopicPartition(topic, partition) for partition in partitions])
    producer = KafkaProducer(bootstrap_servers=config["bootstrap"], linger_ms=5, batch_size=262_144)
    answers = _answers(config)
    shoppers = dict[bytes, Shopper]()
    while True:
        dues = []
        for records in consumer.poll(timeout_ms=200).values():
            for record in records:
                shopper = shoppers.setdefault(record.key, Shopper())
                if due := shopper.add(record.value):
                    dues.append(due)
        for due, answer in zip(dues, answers(dues), strict=True):
            producer.send(config["recommendations"], key=due[0].encode(), value=answer.encode())
        producer.flush()
        consumer.commit()


# --- bytewax ----------------------------------------------------------------------------------------------------------


def run_bytewax(config: Config, process: int) -> None:
    """Run one process per core, which share the keys; state in memory, with snapshots in SQLite for recovery."""
    command = ["-m", "bytewax.run", f"bench.pipeline.peers:bytewax_flow({json.dumps(json.dumps(config))})"]
    recovery = Path(config["folder"], "recovery")
    command += ["-i", str(process), "-a", ";".join(f"127.0.0.1:{port}" for port in config["ports"])]
    command += ["-r", str(recovery), "-s", "10", "-b", "0"]
    if process == 0:
        from bytewax.recovery import init_db_dir

        recovery.mkdir()
        init_db_dir(recovery, config["processes"])
        (recovery / "made").touch()
    while not (recovery / "made").exists():
        time.sleep(0.05)
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606


def bytewax_flow(config_json: str) -> Any:
    """Kafka → key by user → sessions by stateful_batch → answers by flat_map_batch → Kafka."""
    from bytewax import operators as op
    from bytewax.connectors.kafka import KafkaSinkMessage
    from bytewax.connectors.kafka import operators as kop
    from bytewax.dataflow import Dataflow
    from bytewax.operators import StatefulBatchLogic

    config = json.loads(config_json)

    class Session(StatefulBatchLogic):
        def __init__(self, state: bytes | None) -> None:
            self.shopper = _decode(state, type=Shopper) if state else Shopper()

        def on_batch(self, values: list[bytes]) -> tuple[list[Due], bool]:
            return [due for value in values if (due := self.shopper.add(value))], StatefulBatchLogic.RETAIN

        def snapshot(self) -> bytes:
            return _encode(self.shopper)

    @cache
    def answers() -> Answers:
        return _answers(config)

    def answer(batch: list[tuple[str, Due]]) -> list[Any]:
        texts = answers()([due for _, due in batch])
        return [KafkaSinkMessage(user.encode(), text.encode()) for (user, _), text in zip(batch, texts, strict=True)]

    flow = Dataflow("recommend")
    records = kop.input(
        "in", flow, brokers=[config["bootstrap"]], topics=[config["clickstream"]], batch_size=BYTEWAX_BATCH
    )
    keyed = op.map("key", records.oks, lambda record: (record.key.decode(), record.value))
    dues = op.stateful_batch("sessions", keyed, Session)
    kop.output(
        "out", op.flat_map_batch("answer", dues, answer),
        brokers=[config["bootstrap"]], topic=config["recommendations"],
    )  # fmt: skip
    return flow


# --- quix streams -----------------------------------------------------------------------------------------------------


def run_quix(config: Config, process: int) -> None:
    """Run one process per core in a consumer group; state in RocksDB with a changelog topic, answers in a sink."""
    from confluent_kafka import Producer
    from quixstreams import Application
    from quixstreams.sinks import BatchingSink, SinkBatch

    answers = _answers(config)

    class Recommendations(BatchingSink):
        """Answers everything since the last checkpoint; the next one is taken once Kafka has all answers."""

        def setup(self) -> None:
            self._producer = Producer({"bootstrap.servers": config["bootstrap"], "linger.ms": 5})

        def write(self, batch: SinkBatch) -> None:
            dues = [item.value for item in batch]
            for due, answer in zip(dues, answers(dues), strict=True):
                self._producer.produce(config["recommendations"], key=due[0].encode(), value=answer.encode())
                self._producer.poll(0)
            self._producer.flush()

    def add_record(value: bytes, state: Any) -> list[Due]:
        saved = state.get_bytes("shopper")
        shopper = _decode(saved, type=Shopper) if saved else Shopper()
        due = shopper.add(value)
        state.set_bytes("shopper", _encode(shopper))
        return [due] if due else []

    app = Application(
        config["bootstrap"],
        consumer_group=config["recommendations"],
        auto_offset_reset="earliest",
        commit_every=QUIX_COMMIT_EVERY,
        state_dir=Path(config["folder"], f"state-{process}"),
        loglevel="WARNING",
    )
    stream = app.dataframe(app.topic(config["clickstream"], value_deserializer="bytes"))
    stream.apply(add_record, stateful=True, expand=True).sink(Recommendations())
    app.run()


# --- Spark ------------------------------------------------------------------------------------------------------------


def run_spark(config: Config, process: int) -> None:  # noqa: ARG001  # Spark starts its own workers
    """Run Structured Streaming in one JVM: sessions by applyInPandasWithState, answers by mapInPandas."""
    import pandas as pd
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import col

    cores = config["processes"]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .config("spark.jars", ",".join(config["jars"]))
        .config("spark.driver.memory", SPARK_MEMORY)
        .config("spark.sql.shuffle.partitions", cores)
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", SPARK_ROWS)
        .config("spark.ui.enabled", "false")
        .config("spark.local.dir", config["folder"])
        .config("spark.driver.extraJavaOptions", f"-Djava.io.tmpdir={config['folder']}")
        .getOrCreate()
    )

    def add_records(_: Any, frames: Iterable[pd.DataFrame], state: Any) -> Iterator[pd.DataFrame]:
        shopper = _decode(state.get[0], type=Shopper) if state.exists else Shopper()
        records = pd.concat(list(frames)).sort_values("offset")["value"]
        dues = [due for value in records if (due := shopper.add(value))]
        state.update((_encode(shopper),))
        yield pd.DataFrame({"user": [due[0] for due in dues], "due": [_encode(due) for due in dues]})

    def answer(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            dues = [_decode(due, type=Due) for due in frame["due"]]
            yield pd.DataFrame({"key": frame["user"], "value": spark_answers(json.dumps(dict(config)))(dues)})

    kafka = {"kafka.bootstrap.servers": config["bootstrap"]}
    records = (
        spark.readStream.format("kafka")
        .options(**kafka, subscribe=config["clickstream"], startingOffsets="earliest")
        .option("maxOffsetsPerTrigger", min(SPARK_OFFSETS, config["events"] // SPARK_BATCHES + 1))
        .load()
    )
    dues = (
        records.select(col("key").cast("string").alias("user"), "value", "offset")
        .groupBy("user")
        .applyInPandasWithState(add_records, "user string, due binary", "shopper binary", "append", "NoTimeout")
    )
    query = (
        dues.mapInPandas(answer, "key string, value string")
        .writeStream.format("kafka")
        .options(**kafka, topic=config["recommendations"])
        .option("checkpointLocation", str(Path(config["folder"], "checkpoint")))
        .start()
    )
    query.awaitTermination()


@cache
def spark_answers(config: str) -> Answers:
    """One per Python worker; Spark keeps its workers."""
    return _answers(json.loads(config))


# --- the encoder alone ------------------------------------------------------------------------------------------------


def run_encoder(config: Config, process: int) -> None:
    """Encode the texts of config["batches"], a JSON file with lists of texts, again and again, without a cache."""
    from udfs.bundles.bundle import open_bundle
    from udfs.encoder.cache import CachedEncoder
    from udfs.encoder.encoder import open_encoder
    from udfs.encoder.options import EncoderOptions

    encoder = CachedEncoder(
        open_encoder(open_bundle(Path(config["bundles"])), EncoderOptions(threads=config["threads"])), 0
    )
    while True:
        for texts in json.loads(Path(config["batches"]).read_text())[process :: config["processes"]]:
            encoder.encode(texts)
            write_stats(Path(config["folder"], f"stats-{os.getpid()}.json"), encoder.stats)


PEERS: dict[str, Callable[[Config, int], None]] = {
    "bytewax": run_bytewax,
    "quix-streams": run_quix,
    "spark": run_spark,
    "loop": run_loop,
    "encoder": run_encoder,
}

if __name__ == "__main__":
    from bench.pipeline.peers import PEERS  # Spark's workers look functions up by the module's real name

    PEERS[sys.argv[1]](json.loads(Path(sys.argv[3]).read_text()), int(sys.argv[2]))
