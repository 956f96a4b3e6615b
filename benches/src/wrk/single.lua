-- Sends requests of one event for as long as wrk is told, over and over, each time with another id.
--
-- The file holds requests as they go over the wire: a line with the lengths of what comes before the first 16 digits of
-- the id and of what comes behind them, then both.

local requests, count, checked = {}, 0, false

function init(args)
    local file = assert(io.open(args[1], "rb"))
    while true do
        local before, behind = file:read("*n", "*n")
        if not before then break end
        file:read(1)
        table.insert(requests, { file:read(before), file:read(behind) })
    end
    file:close()
end

function request()
    local parts = requests[count % #requests + 1]
    -- wrk looks at one request before it begins.
    if checked then count = count + 1 end
    checked = true
    return parts[1] .. string.format("%016x", count) .. parts[2]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format(
        '\nmeasured {"answers":%d,"failed":%d,"broken":%d,"seconds":%.6f,"p50":%.6f,"p99":%.6f,"most":%.6f}\n',
        summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
        summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6, latency.max / 1e6))
end
