-- An answer by its id, or by its exact fingerprint where the id is ''. KEYS as in base.lua. ARGV: id, exact.
-- {id, document, known or ''}; nothing where there is none, or keys hold what is not ours.
local id = ARGV[1]
if id == '' then id = redis.pcall('HGET', KEYS[4], ARGV[2]) end
if type(id) ~= 'string' then return false end
local document = redis.pcall('HGET', KEYS[2], id)
if type(document) ~= 'string' then return false end
local known = redis.pcall('HGET', KEYS[5], id)
return {id, document, type(known) == 'string' and known or ''}
