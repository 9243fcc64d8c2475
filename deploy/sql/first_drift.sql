-- Where a drift began: for each endpoint the node that saw it first, and how long until the others did.
SELECT
    endpoint,
    argMin(node, first_seen) AS first_node,
    min(first_seen) AS began,
    uniqExact(node) AS nodes,
    dateDiff('second', min(first_seen), max(first_seen)) AS spread_seconds,
    groupUniqArray(rule) AS rules
FROM alerts FINAL
WHERE endpoint != '' AND rule IN ('DNS-01', 'DNS-02', 'DST-02', 'DST-03', 'TLS-01', 'TD-01')
GROUP BY endpoint
ORDER BY began;
