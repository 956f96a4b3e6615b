-- Sends every request of a file once, and says how long that took: from the first request to the last answer.
--
-- The file holds requests as they go over the wire, each after a line with its length. wrk knows only durations, so the
-- last answer ends it: the thread is stopped, and the signal wakes the one that waits for the duration to be over.

local ffi = require("ffi")
ffi.cdef [[
    typedef struct { long seconds; long nanoseconds; } moment_t;
    int clock_gettime(int clock, moment_t *moment);
    int getpid(void);
    int kill(int process, int signal);
]]
local MONOTONIC, SIGINT = 1, 2
-- Milliseconds: longer than any run.
local NEVER = 1e9

local moment = ffi.new("moment_t")
local function now()
    ffi.C.clock_gettime(MONOTONIC, moment)
    return tonumber(moment.seconds) + tonumber(moment.nanoseconds) / 1e9
end

local threads = {}
local requests, begun, sent, checked = {}, 0, 0, false
local began
answers, failed, said, seconds = 0, 0, 0, 0

function setup(thread)
    table.insert(threads, thread)
end

function init(args)
    local file = assert(io.open(args[1], "rb"))
    while true do
        local length = file:read("*l")
        if not length then break end
        table.insert(requests, file:read(tonumber(length)))
    end
    file:close()
end

-- A connection asks this first; whoever comes when all requests are given away has nothing to send.
function delay()
    if begun == #requests then return NEVER end
    begun = begun + 1
    return 0
end

function request()
    -- wrk looks at one request before it begins.
    if not checked then
        checked = true
        return requests[1]
    end
    began = began or now()
    sent = sent + 1
    return requests[sent]
end

function response(status, _, body)
    answers = answers + 1
    if status ~= 200 then
        failed = failed + 1
        failure = failure or status .. ": " .. body
    end
    said = said + (tonumber(body:match('"accepted":(%d+)') or body) or 0)
    if answers == #requests then
        seconds = now() - began
        wrk.thread:stop()
        ffi.C.kill(ffi.C.getpid(), SIGINT)
    end
end

function done(summary)
    local thread, errors = threads[1], summary.errors
    io.write(string.format(
        '\nmeasured {"answers":%d,"failed":%d,"broken":%d,"said":%d,"seconds":%.6f}\n',
        thread:get("answers"), thread:get("failed"), errors.connect + errors.read + errors.write,
        thread:get("said"), thread:get("seconds")))
    if thread:get("failure") then
        io.write("failure ", thread:get("failure"), "\n")
    end
end
