-- Argo CD health of TrainJob, EvalJob and ExportJob (group anneal.dev): the three conditions of kstatus, read in order.
local function condition(obj, kind)
  if obj.status ~= nil and obj.status.conditions ~= nil then
    for _, c in ipairs(obj.status.conditions) do
      if c.type == kind then return c end
    end
  end
  return nil
end

local function text(c)
  if c == nil then return "" end
  if c.message ~= nil and c.message ~= "" then return c.reason .. ": " .. c.message end
  return c.reason or ""
end

local hs = {status = "Progressing", message = "the operator has not looked at this job yet"}
if obj.status == nil or obj.status.conditions == nil then return hs end
if obj.metadata.generation ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  hs.message = "the operator has not looked at the newest spec yet"
  return hs
end

local ready, stalled = condition(obj, "Ready"), condition(obj, "Stalled")
hs.message = text(ready)
if stalled ~= nil and stalled.status == "True" then
  hs.status = "Degraded"
  hs.message = text(stalled)
elseif obj.spec ~= nil and obj.spec.suspend == true then
  hs.status = "Suspended"
elseif ready ~= nil and ready.status == "True" then
  hs.status = "Healthy"
end
return hs
