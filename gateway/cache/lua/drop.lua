-- Forgets answers. ARGV: ..., ids. {how many there were, ...}
open()
local count = 0
for place = 3, #ARGV do
  if forget(ARGV[place]) then count = count + 1 end
end
return close(count)
