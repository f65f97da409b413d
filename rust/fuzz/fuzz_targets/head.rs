//! libFuzzer's entry to `ferrows_fuzz::head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferrows_fuzz::head::run(data));
