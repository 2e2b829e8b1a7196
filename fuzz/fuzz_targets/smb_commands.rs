#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz::smb_messages::commands(data));
