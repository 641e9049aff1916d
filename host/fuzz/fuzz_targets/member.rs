#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wpool::fuzzing::run("member", data));
