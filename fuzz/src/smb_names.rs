//! Paths, search patterns and 8.3 names. Input: a pattern, then a path, both UTF-16LE.

use smb::fscc::{
    ParsedPath, Pattern, equal_names, hash_name, is_made_short_name, is_short_name, is_valid_component,
    short_name,
};

use crate::input::{Input, units};

const BACKSLASH: u16 = b'\\' as u16;

/// The target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let pattern = units(input.piece());
    let path = units(input.rest());

    if let Ok(parsed) = ParsedPath::parse(&path) {
        if !parsed.path.is_empty() {
            for component in parsed.path.split(|unit| *unit == BACKSLASH) {
                // Only a stream of the root has an empty component, and nothing climbs.
                assert!(is_valid_component(component));
            }
        }
        if let Some(stream) = &parsed.stream {
            assert!(
                stream.len() <= 255 && !stream.contains(&u16::from(b':')) && !stream.contains(&BACKSLASH)
            );
        }
        assert!(!(parsed.trailing_separator && (parsed.stream.is_some() || parsed.data_stream)));
    }
    let name = path.get(..path.len().min(255)).unwrap_or(&path);
    if let Ok(pattern) = Pattern::new(&pattern) {
        let matches = pattern.matches(name);
        if let Some(literal) = pattern.literal() {
            assert_eq!(matches, equal_names(literal, name));
            assert!(!matches || hash_name(literal) == hash_name(name));
        }
        assert!(!pattern.is_everything() || matches);
    }
    if is_valid_component(name) {
        match short_name(name) {
            Some(short) => {
                assert!(is_made_short_name(short.units()) && is_valid_component(short.units()));
                assert_eq!(short_name(short.units()), None);
            }
            None => assert!(is_short_name(name)),
        }
    }
}
