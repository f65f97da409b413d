//! libFuzzer's entry to `ferrows_fuzz::deflate`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ferrows_fuzz::deflate::run(data));
