//! libFuzzer's entry to `ferrows_fuzz::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferrows_fuzz::frame::run(data));
