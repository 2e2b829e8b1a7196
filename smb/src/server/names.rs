//! Paths as clients send them, cut down to what this server has: no streams.

use alloc::vec::Vec;

use crate::environment::{Volume, VolumeError};
use crate::fscc::{ParsedPath, is_made_short_name, short_name};
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

/// Made-up 8.3 names that a path may have: as many as fit into the 260 units of a path of old, and more than one directory
/// is read through for each only then.
const MADE_NAMES: usize = 28;

/// Puts, for each made-up 8.3 name in `path` for which there is no file, the name that it was made of. Where there is none,
/// the rest of the path is left as it is.
pub(crate) fn resolve_made_names<V: Volume>(volume: &V, path: &mut Vec<u16>) -> Result<(), VolumeError> {
    if !path.contains(&u16::from(b'~')) {
        return Ok(());
    }
    let mut left = MADE_NAMES;
    let mut start = 0;
    while let Some(rest) = path.get(start..).filter(|rest| !rest.is_empty()) {
        let component = rest.split(|unit| *unit == SEPARATOR).next().unwrap_or(&[]);
        let mut end = start + component.len();
        if is_made_short_name(component) {
            match volume.open(path.get(..end).unwrap_or(&[])) {
                // A name that is stored comes first.
                Ok(node) => volume.close(node)?,
                Err(VolumeError::NotFound) if left > 0 => {
                    left -= 1;
                    let directory = path.get(..start.saturating_sub(1)).unwrap_or(&[]);
                    let Some(name) = made_of(volume, directory, component)? else { return Ok(()) };
                    let behind = path.split_off(end);
                    path.truncate(start);
                    path.extend_from_slice(&name);
                    end = path.len();
                    path.extend_from_slice(&behind);
                }
                Err(_) => return Ok(()),
            }
        }
        start = end + 1;
    }
    Ok(())
}

/// The first name in a directory of which the 8.3 name `made` is made.
fn made_of<V: Volume>(volume: &V, directory: &[u16], made: &[u16]) -> Result<Option<Vec<u16>>, VolumeError> {
    let mut found = None;
    let node = volume.open(directory)?;
    let listed = volume.list(node, 0, &mut |entry| {
        if entry.short_name.is_none()
            && short_name(entry.name).is_some_and(|short| equal(short.units(), made))
        {
            found = Some(entry.name.to_vec());
        }
        found.is_none()
    });
    volume.close(node)?;
    listed.map(|()| found)
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
