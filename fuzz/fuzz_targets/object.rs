#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(target) = tests::fuzz::target("object") {
        (target.run)(bytes);
    }
});
