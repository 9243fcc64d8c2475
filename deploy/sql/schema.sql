-- Records of a fleet of mcp-monitor in ClickHouse.
--
-- A collector (OTLP or Kafka) inserts each record as it was written, one JSON object, into `records`, with the
-- node it came from. The views below sort it out. Delivery is at least once: the tables keep one row an id, the
-- one with the highest count, so query them with FINAL.

CREATE TABLE IF NOT EXISTS records
(
    node LowCardinality(String),
    line String CODEC(ZSTD),
    received DateTime DEFAULT now()
)
ENGINE = MergeTree
ORDER BY received
TTL received + INTERVAL 7 DAY;

CREATE TABLE IF NOT EXISTS alerts
(
    id String,
    node LowCardinality(String),
    first_seen DateTime64(9, 'UTC'),
    last_seen DateTime64(9, 'UTC'),
    rule LowCardinality(String),
    severity LowCardinality(String),
    endpoint LowCardinality(String),
    server_name String,
    server_ip String,
    namespace LowCardinality(String),
    pod String,
    comm LowCardinality(String),
    observed String,
    fingerprint String,
    summary String,
    count UInt64,
    line String CODEC(ZSTD)
)
ENGINE = ReplacingMergeTree(count)
ORDER BY (rule, node, id);

CREATE MATERIALIZED VIEW IF NOT EXISTS alerts_from_records TO alerts AS
SELECT
    JSONExtractString(line, 'id') AS id,
    if(JSONExtractString(line, 'kubernetes', 'node') = '', node, JSONExtractString(line, 'kubernetes', 'node')) AS node,
    parseDateTime64BestEffort(JSONExtractString(line, 'first_seen'), 9, 'UTC') AS first_seen,
    parseDateTime64BestEffort(JSONExtractString(line, 'last_seen'), 9, 'UTC') AS last_seen,
    JSONExtractString(line, 'rule') AS rule,
    JSONExtractString(line, 'severity') AS severity,
    JSONExtractString(line, 'endpoint') AS endpoint,
    JSONExtractString(line, 'flow', 'server_name') AS server_name,
    JSONExtractString(line, 'flow', 'server', 'ip') AS server_ip,
    JSONExtractString(line, 'kubernetes', 'namespace') AS namespace,
    JSONExtractString(line, 'kubernetes', 'pod') AS pod,
    JSONExtractString(line, 'process', 'comm') AS comm,
    JSONExtractString(line, 'observed') AS observed,
    -- Of findings about credentials: the keyed fingerprint, comparable between nodes that share fingerprint_key_file.
    extract(JSONExtractString(line, 'observed'), 'fingerprint ([0-9a-f]{16})') AS fingerprint,
    JSONExtractString(line, 'summary') AS summary,
    JSONExtractUInt(line, 'count') AS count,
    line
FROM records
WHERE JSONExtractString(line, 'schema') = 'mcp-monitor.alert/1';

CREATE TABLE IF NOT EXISTS flows
(
    id String,
    node LowCardinality(String),
    start DateTime64(9, 'UTC'),
    transport LowCardinality(String),
    client_ip String,
    server_ip String,
    server_port UInt16,
    server_name String,
    plaintext LowCardinality(String),
    mcp Bool,
    duration_seconds Float64,
    bytes_to_server UInt64,
    bytes_to_client UInt64,
    lost_bytes UInt64
)
ENGINE = ReplacingMergeTree
ORDER BY (node, id);

CREATE MATERIALIZED VIEW IF NOT EXISTS flows_from_records TO flows AS
SELECT
    JSONExtractString(line, 'flow', 'id') AS id,
    node,
    parseDateTime64BestEffort(JSONExtractString(line, 'start'), 9, 'UTC') AS start,
    JSONExtractString(line, 'flow', 'transport') AS transport,
    JSONExtractString(line, 'flow', 'client', 'ip') AS client_ip,
    JSONExtractString(line, 'flow', 'server', 'ip') AS server_ip,
    toUInt16(JSONExtractUInt(line, 'flow', 'server', 'port')) AS server_port,
    JSONExtractString(line, 'flow', 'server_name') AS server_name,
    JSONExtractString(line, 'flow', 'plaintext') AS plaintext,
    JSONExtractBool(line, 'mcp') AS mcp,
    JSONExtractFloat(line, 'duration_seconds') AS duration_seconds,
    JSONExtractUInt(line, 'to_server', 'bytes') AS bytes_to_server,
    JSONExtractUInt(line, 'to_client', 'bytes') AS bytes_to_client,
    JSONExtractUInt(line, 'flow', 'lost_bytes') AS lost_bytes
FROM records
WHERE JSONExtractString(line, 'schema') = 'mcp-monitor.flow/1';
