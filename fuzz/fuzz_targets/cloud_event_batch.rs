#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    modelog_fuzz::Target::named("cloud_event_batch").run(bytes);
});
