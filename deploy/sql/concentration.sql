-- OP-01 over the fleet: servers that carry more than 0.8 of all MCP connections of at least two nodes.
SELECT
    if(server_name = '', server_ip, server_name) AS server,
    count() AS connections,
    uniqExact(node) AS nodes,
    round(connections / (SELECT count() FROM flows FINAL WHERE mcp), 3) AS share
FROM flows FINAL
WHERE mcp
GROUP BY server
HAVING share > 0.8 AND nodes > 1
ORDER BY share DESC;
