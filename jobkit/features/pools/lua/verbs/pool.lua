-- Changes a pool. args: name, owner (of the leader lock of autoscalers, "" for a user), fields (JSON of texts; null deletes one)
-- or "" to delete a pool that is marked as removed, "1" to notify no subscriber, and the sealed definition if it is put.
-- Returns 1; 0 if there is no such pool, or another autoscaler leads.
verb('pool', ALSO_WHEN_FULL, function(args)
  local name, owner, fields, is_quiet, sealed = args[1], args[2], args[3], args[4] == '1', args[5]
  local key = P .. 'pool:' .. name
  if owner ~= '' and call('GET', P .. 'autoscaler') ~= owner then return 0 end
  if sealed then
    call('HSET', P .. 'pools', name, sealed)
  elseif call('HEXISTS', P .. 'pools', name) == 0 then
    return 0
  end
  if fields == '' then
    if call('HEXISTS', key, 'removed') == 0 then return 0 end
    call('HDEL', P .. 'pools', name)
    call('DEL', key)
  end
  for field, value in pairs(object(fields)) do
    if value == cjson.null then call('HDEL', key, field) else call('HSET', key, field, value) end
  end
  if not is_quiet then Records.tell_control() end
  return 1
end)
