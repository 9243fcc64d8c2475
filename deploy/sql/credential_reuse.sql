-- CR-05 across nodes: one credential presented to more than one server, anywhere in the fleet.
--
-- Of credentials that some rule reported (in the clear, after a redirect, in arguments). Needs one
-- fingerprint_key_file on all nodes.
SELECT
    fingerprint,
    uniqExact(server) AS servers,
    groupUniqArray(server) AS which,
    groupUniqArray(node) AS nodes,
    min(first_seen) AS since
FROM
(
    SELECT fingerprint, node, first_seen, if(server_name = '', server_ip, server_name) AS server
    FROM alerts FINAL
    WHERE fingerprint != '' AND rule LIKE 'CR-%'
)
WHERE server != ''
GROUP BY fingerprint
HAVING servers > 1
ORDER BY servers DESC, fingerprint;
