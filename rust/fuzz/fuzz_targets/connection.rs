//! libFuzzer's entry to `ferrows_fuzz::connection`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferrows_fuzz::connection::run(data));
