#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rmq::fuzz::run("command", bytes));
