#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    modelog_fuzz::Target::named("message").run(bytes);
});
