\set first random(1, 100000 * :scale - 100)
\set least random(0, 1000000)
SELECT b.bid, count(*) AS accounts, sum(a.abalance) AS balance,
    sum(a.abalance * (1 - 0.05)) AS discounted, sum(a.abalance * (1 - 0.05) * (1 + 0.19)) AS charged,
    avg(a.abalance) AS average, min(a.aid) AS first, max(a.aid) AS last,
    count(a.filler) AS filled, sum(CASE WHEN a.abalance > :least THEN 1 ELSE 0 END) AS many
FROM pgbench_accounts a JOIN pgbench_branches b ON b.bid = a.bid
WHERE a.aid BETWEEN :first AND :first + 50 AND b.bbalance >= -:least
GROUP BY b.bid ORDER BY b.bid LIMIT 10;
