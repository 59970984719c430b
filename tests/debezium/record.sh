#!/usr/bin/env bash
# Records what Debezium makes of products.sql, in this folder: plain.jsonl by the connector of docs/catalog.md,
# schemas.jsonl by one with the default converters and decimals, flat.jsonl by one that leaves rows alone and marks
# deleted ones, and table.json, the table at the end.
#
# Needs Maven, Java 17, PostgreSQL's server (Debian: apt-get install postgresql maven openjdk-17-jre-headless), the
# project's environment, and a user `postgres` to run the server. Half a minute; the tests read only what it leaves.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
chmod 755 "$work"
postgres=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
shopstream=("$root/.venv/bin/shopstream")
settings=(--set "home=$work/home" --set kafka.bootstrap=127.0.0.1:19192)
connect=
as_postgres() { runuser -u postgres -- "$@"; }
stop() {
  [ -z "$connect" ] || kill "$connect" || true
  as_postgres "$postgres/pg_ctl" --pgdata "$work/data" --mode immediate stop || true
  "${shopstream[@]}" kafka stop "${settings[@]}" || true
  rm -rf "$work"
}
trap stop EXIT

install --directory --owner postgres "$work/data" "$work/socket"
as_postgres "$postgres/initdb" --pgdata "$work/data" --auth trust > /dev/null
as_postgres "$postgres/pg_ctl" --pgdata "$work/data" --wait --log "$work/data/log" start \
  --options "-p 15432 -k $work/socket -c listen_addresses=127.0.0.1 -c wal_level=logical"
sql() { as_postgres "$postgres/psql" --quiet --host "$work/socket" --port 15432 --set ON_ERROR_STOP=1 "$@"; }
sed '/^-- changes/,$d' "$here/products.sql" | sql

"${shopstream[@]}" kafka start "${settings[@]}"
mvn --batch-mode --quiet --file "$here/pom.xml" dependency:copy-dependencies -DoutputDirectory="$work/jars"
cat > "$work/worker.properties" << END
bootstrap.servers=127.0.0.1:19192
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
offset.storage.file.filename=$work/offsets
listeners=http://127.0.0.1:18083
END
for name in plain schemas flat; do
  cat > "$work/$name.properties" << END
name=$name
slot.name=$name
publication.name=$name
database.hostname=127.0.0.1
database.port=15432
database.user=postgres
database.dbname=postgres
END
  sed -n '/^```properties$/,/^```$/{/^```/!p}' "$root/docs/catalog.md" | sed "s/^topic.prefix=.*/topic.prefix=$name/" \
    >> "$work/$name.properties"
done
sed -i '/^decimal\|converter/d' "$work/schemas.properties"
cat >> "$work/flat.properties" << END
transforms=flat
transforms.flat.type=io.debezium.transforms.ExtractNewRecordState
transforms.flat.delete.tombstone.handling.mode=rewrite
END
java -cp "$work/jars/*" org.apache.kafka.connect.cli.ConnectStandalone \
  "$work/worker.properties" "$work"/{plain,schemas,flat}.properties > "$work/connect.log" 2>&1 &
connect=$!
record() { "$root/.venv/bin/python" "$here/record.py" 127.0.0.1:19192 "$1.public.products" "$2" "$here/$1.jsonl"; }
record plain 6
record schemas 6
record flat 6
sed '1,/^-- changes/d' "$here/products.sql" | sql
# 107; 101; 102; 103; 104 (delete, tombstone, create); 105 (2); 106 (3); 108 (3)
record plain 21
record schemas 21
record flat 17  # without the tombstones
sql --tuples-only --no-align > "$here/table.json" \
  --command "SELECT json_agg(products ORDER BY id) FROM (SELECT id, name, department, maker, price, list_price, stock FROM products) products"
