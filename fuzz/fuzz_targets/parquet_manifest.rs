#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    modelog_fuzz::Target::named("parquet_manifest").run(bytes);
});
