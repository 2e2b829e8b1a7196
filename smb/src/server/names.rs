//! Paths as clients send them, cut down to what this server has: no streams.

use alloc::vec::Vec;

use crate::fscc::ParsedPath;
use crate::status::NtStatus;

pub(crate) use crate::fscc::equal_names as equal;

/// The separator.
pub(crate) const SEPARATOR: u16 = b'\\' as u16;

/// A path that was found fit to be shown to a volume.
#[derive(Debug)]
pub(crate) struct Path {
    /// Components parted by one separator each; empty for the root.
    pub units: Vec<u16>,
    /// It ended in a separator: only a directory will do.
    pub directory: bool,
}

/// Checks a path of CREATE or of a rename.
///
/// # Errors
/// As [`ParsedPath::parse`], and OBJECT_NAME_INVALID for a stream, the unnamed one included: where there are none,
/// a colon is no part of a name.
pub(crate) fn parse(name: &[u16]) -> Result<Path, NtStatus> {
    let parsed = ParsedPath::parse(name)?;
    if parsed.stream.is_some() || parsed.data_stream {
        return Err(NtStatus::OBJECT_NAME_INVALID);
    }
    Ok(Path { units: parsed.path, directory: parsed.trailing_separator })
}

/// The path of the directory that `path` lies in; `None` for the root.
pub(crate) fn parent(path: &[u16]) -> Option<&[u16]> {
    if path.is_empty() {
        return None;
    }
    let end = path.iter().rposition(|unit| *unit == SEPARATOR).unwrap_or(0);
    path.get(..end)
}

/// The last component of `path`.
pub(crate) fn last(path: &[u16]) -> &[u16] {
    path.rsplit(|unit| *unit == SEPARATOR).next().unwrap_or(&[])
}

/// Whether `path` lies below `directory`.
pub(crate) fn is_below(path: &[u16], directory: &[u16]) -> bool {
    if directory.is_empty() {
        return !path.is_empty();
    }
    path.get(directory.len()) == Some(&SEPARATOR)
        && path.get(..directory.len()).is_some_and(|front| equal(front, directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn paths_are_taken_apart() {
        assert_eq!(parent(&units("a\\b\\c")), Some(&units("a\\b")[..]));
        assert_eq!(parent(&units("a")), Some(&[][..]));
        assert_eq!(parent(&[]), None);
        assert_eq!(last(&units("a\\b")), units("b"));
        assert!(is_below(&units("A\\b"), &units("a")));
        assert!(!is_below(&units("ab"), &units("a")));
        assert!(!is_below(&units("a"), &units("a")));
        assert!(is_below(&units("a"), &[]));
        assert_eq!(parse(&units("a:b")).unwrap_err(), NtStatus::OBJECT_NAME_INVALID);
        assert_eq!(parse(&units("a::$DATA")).unwrap_err(), NtStatus::OBJECT_NAME_INVALID);
    }
}
