-- Forgets what has expired. ARGV: ..., how many at most. {1: there may be more, 0, ...}
open()
reap(tonumber(ARGV[3]))
return close(redis.call('ZCOUNT', EXPIRY, '-inf', NOW) > 0 and 1 or 0)
