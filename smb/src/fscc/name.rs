//! Which names there can be, paths as clients send them, and 8.3 names.

use alloc::vec::Vec;

use super::upcase::{equal_names, hash_name, upcase};
use crate::status::NtStatus;

/// UTF-16 code units that a component may have.
pub const MAXIMUM_COMPONENT: usize = 255;

const BACKSLASH: u16 = b'\\' as u16;
const COLON: u16 = b':' as u16;
const DOT: u16 = b'.' as u16;

/// The units cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameInvalid;

impl From<NameInvalid> for NtStatus {
    fn from(_: NameInvalid) -> NtStatus {
        NtStatus::OBJECT_NAME_INVALID
    }
}

/// Whether a name may have this unit: no control characters, none of `" * / : < > ? \ |` (MS-FSCC 2.1.5). Surrogates may
/// stand alone: exFAT and Windows do not look at them either.
pub const fn is_allowed(unit: u16) -> bool {
    const RESERVED: [u8; 9] = *b"\"*/:<>?\\|";
    if unit >= 0x80 {
        return true;
    }
    let mut index = 0;
    while index < RESERVED.len() {
        if unit == RESERVED[index] as u16 {
            return false;
        }
        index += 1;
    }
    unit >= 0x20
}

/// Whether a component can name a file: 1 to 255 allowed units, not `.` or `..`.
///
/// Names of DOS devices (CON, AUX.C) are names like others: no device answers to them here. Trailing dots and spaces are
/// kept as they come.
pub fn is_valid_component(name: &[u16]) -> bool {
    !name.is_empty()
        && name.len() <= MAXIMUM_COMPONENT
        && !matches!(name, [DOT] | [DOT, DOT])
        && name.iter().all(|unit| is_allowed(*unit))
}

/// A path taken apart: what a CREATE or rename asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedPath {
    /// Components parted by single `\`, none at the ends; empty for the share's root.
    pub path: Vec<u16>,
    /// The stream that was asked for, without its type; None for the unnamed data stream.
    pub stream: Option<Vec<u16>>,
    /// The name said `::$DATA`: a file is meant, never a directory.
    pub data_stream: bool,
    /// The path ended in `\`: a directory is meant.
    pub trailing_separator: bool,
}

impl ParsedPath {
    /// Parses the path of a CREATE or rename, relative to the share.
    ///
    /// - A leading `\` is INVALID_PARAMETER (MS-SMB2 3.3.5.9).
    /// - `..` is OBJECT_PATH_SYNTAX_BAD: nothing is resolved here, so nothing can climb.
    /// - Empty components, `.`, wildcards, control and reserved characters, components over 255 units and malformed stream
    ///   names are OBJECT_NAME_INVALID.
    /// - A path over 32,760 units is NAME_TOO_LONG.
    pub fn parse(path: &[u16]) -> Result<ParsedPath, NtStatus> {
        const MAXIMUM_PATH: usize = 32_760;
        if path.len() > MAXIMUM_PATH {
            return Err(NtStatus::NAME_TOO_LONG);
        }
        if path.first() == Some(&BACKSLASH) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let (path, trailing_separator) = match path.split_last() {
            Some((&BACKSLASH, front)) => (front, true),
            _ => (path, false),
        };
        let mut parsed =
            ParsedPath { path: Vec::new(), stream: None, data_stream: false, trailing_separator };
        if path.is_empty() {
            return Ok(parsed);
        }
        let last_start = path.iter().rposition(|unit| *unit == BACKSLASH).map_or(0, |at| at + 1);
        let (front, last) = path.split_at_checked(last_start).ok_or(NameInvalid)?;
        let (last, stream) = match last.iter().position(|unit| *unit == COLON) {
            Some(colon) => {
                let (name, stream) = last.split_at_checked(colon).ok_or(NameInvalid)?;
                (name, stream.get(1..))
            }
            None => (last, None),
        };
        if let Some(stream) = stream {
            if trailing_separator {
                return Err(NtStatus::OBJECT_NAME_INVALID);
            }
            parsed.stream = parse_stream(stream)?;
            parsed.data_stream = parsed.stream.is_none();
        }
        for component in front.split(|unit| *unit == BACKSLASH).take(components(front)).chain([last]) {
            if component == [DOT, DOT] {
                return Err(NtStatus::OBJECT_PATH_SYNTAX_BAD);
            }
            // A stream of the share's root itself has no component before its colon.
            let root_stream = component.is_empty() && stream.is_some() && front.is_empty();
            if !is_valid_component(component) && !root_stream {
                return Err(NtStatus::OBJECT_NAME_INVALID);
            }
        }
        parsed.path.extend_from_slice(front);
        parsed.path.extend_from_slice(last);
        Ok(parsed)
    }
}

/// How many components `front` has; it is empty or ends in `\`.
fn components(front: &[u16]) -> usize {
    front.iter().filter(|unit| **unit == BACKSLASH).count()
}

/// `name`, `name:$DATA`, `:$DATA` (what follows a file name's colon). None is the unnamed data stream.
fn parse_stream(stream: &[u16]) -> Result<Option<Vec<u16>>, NtStatus> {
    const DATA: [u16; 5] = [b'$' as u16, b'D' as u16, b'A' as u16, b'T' as u16, b'A' as u16];
    let mut parts = stream.split(|unit| *unit == COLON);
    let (name, kind, more) = (parts.next().unwrap_or(&[]), parts.next(), parts.next());
    let name_valid = name.len() <= MAXIMUM_COMPONENT
        && name.iter().all(|unit| is_allowed(*unit) || (1..0x20).contains(unit));
    match kind {
        _ if more.is_some() || !name_valid => Err(NtStatus::OBJECT_NAME_INVALID),
        // A colon with nothing behind it names no stream.
        None if name.is_empty() => Err(NtStatus::OBJECT_NAME_INVALID),
        None => Ok(Some(name.to_vec())),
        Some(kind) if !equal_names(kind, &DATA) => Err(NtStatus::OBJECT_NAME_INVALID),
        Some(_) if name.is_empty() => Ok(None),
        Some(_) => Ok(Some(name.to_vec())),
    }
}

/// An 8.3 name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortName {
    units: [u16; 12],
    length: u8,
}

impl ShortName {
    const EMPTY: ShortName = ShortName { units: [0; 12], length: 0 };

    /// Its units.
    pub fn units(&self) -> &[u16] {
        self.units.get(..usize::from(self.length)).unwrap_or(&[])
    }

    fn push(&mut self, unit: u16) {
        if let Some(place) = self.units.get_mut(usize::from(self.length)) {
            *place = unit;
            self.length += 1;
        }
    }

    /// Takes at most `most` characters of `part`, dots and spaces left out; says how many.
    fn push_usable(&mut self, part: &[u16], most: usize) -> usize {
        let mut taken = 0;
        for &unit in part {
            if taken == most {
                break;
            }
            if unit != DOT && unit != u16::from(b' ') {
                let unit = upcase(unit);
                self.push(if is_short_unit(unit) { unit } else { u16::from(b'_') });
                taken += 1;
            }
        }
        taken
    }
}

/// Whether an 8.3 name may have this unit, upper case.
fn is_short_unit(unit: u16) -> bool {
    /// A bit for each unit below 128.
    const ALLOWED: [u32; 4] = {
        let mut bits = [0; 4];
        let mut byte = 0;
        while byte < 128u8 {
            let special = matches!(
                byte,
                b'!' | b'#'..=b')' | b'-' | b'@' | b'^'..=b'`' | b'{' | b'}' | b'~'
            );
            if byte.is_ascii_uppercase() || byte.is_ascii_digit() || special {
                bits[byte as usize / 32] |= 1 << (byte % 32);
            }
            byte += 1;
        }
        bits
    };
    ALLOWED.get(usize::from(unit / 32)).is_some_and(|bits| bits >> (unit % 32) & 1 != 0)
}

/// Whether a name already is an 8.3 name, but for its case.
pub fn is_short_name(name: &[u16]) -> bool {
    let (base, extension) = match name.iter().position(|unit| *unit == DOT) {
        Some(dot) => (name.get(..dot).unwrap_or(&[]), name.get(dot + 1..)),
        None => (name, None),
    };
    let fits = |part: &[u16], most: usize| {
        (1..=most).contains(&part.len()) && part.iter().all(|unit| is_short_unit(upcase(*unit)))
    };
    fits(base, 8) && extension.is_none_or(|extension| fits(extension, 3))
}

/// An 8.3 name for `name`: two of its characters, four digits of a hash over the whole name, `~1`, and three characters of
/// its extension; None when it is one already.
///
/// It depends on the name alone, so a listing and a later open by short name agree without anything being stored. Two names
/// of one directory share it with a probability of 1 to 65,536 if they begin alike: the first one found then wins.
pub fn short_name(name: &[u16]) -> Option<ShortName> {
    if is_short_name(name) || matches!(name, [] | [DOT] | [DOT, DOT]) {
        return None;
    }
    let dot = name.iter().rposition(|unit| *unit == DOT).filter(|dot| *dot > 0);
    let base = name.get(..dot.unwrap_or(name.len())).unwrap_or(name);
    let extension = dot.and_then(|dot| name.get(dot + 1..)).unwrap_or(&[]);
    let mut short = ShortName::EMPTY;
    if short.push_usable(base, 2) == 0 {
        short.push(u16::from(b'_'));
    }
    let hash = hash_name(name);
    let hash = (hash >> 16) ^ (hash & 0xFFFF);
    for shift in [12, 8, 4, 0] {
        let digit = u8::try_from(hash >> shift & 0xF).unwrap_or(0);
        short.push(u16::from(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }));
    }
    short.push(u16::from(b'~'));
    short.push(u16::from(b'1'));
    let length = short.length;
    short.push(DOT);
    if short.push_usable(extension, 3) == 0 {
        short.length = length;
    }
    Some(short)
}

/// Whether `name` has the form of what [`short_name`] makes, in any case.
pub fn is_made_short_name(name: &[u16]) -> bool {
    let base = name.split(|unit| *unit == DOT).next().unwrap_or(&[]);
    let digits = base.strip_suffix(&[b'~', b'1'].map(u16::from)).and_then(<[u16]>::split_last_chunk::<4>);
    let is_digit = |unit: &u16| u8::try_from(*unit).is_ok_and(|byte| byte.is_ascii_hexdigit());
    digits.is_some_and(|(start, digits)| !start.is_empty() && digits.iter().all(is_digit))
        && is_short_name(name)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    fn parse(text: &str) -> Result<(String, Option<String>), NtStatus> {
        let parsed = ParsedPath::parse(&utf16(text))?;
        let stream = parsed.stream.map(|stream| String::from_utf16(&stream).unwrap());
        Ok((String::from_utf16(&parsed.path).unwrap(), stream))
    }

    #[test]
    fn components() {
        for name in ["a", "con", ".hidden", "trailing.", "ümlaut", "a b", "...", "\u{1F600}"] {
            assert!(is_valid_component(&utf16(name)), "{name}");
        }
        for name in ["", ".", "..", "a*", "a?b", "a/b", "a\\b", "a|b", "a:b", "\u{1}", "a\0", "<", "\""] {
            assert!(!is_valid_component(&utf16(name)), "{name:?}");
        }
        assert!(is_valid_component(&[0xD800]));
        assert!(is_valid_component(&[0x61; 255]));
        assert!(!is_valid_component(&[0x61; 256]));
    }

    #[test]
    fn paths() {
        assert_eq!(parse(""), Ok((String::new(), None)));
        assert_eq!(parse("a\\b\\c.txt"), Ok(("a\\b\\c.txt".into(), None)));
        assert_eq!(parse("dir\\"), Ok(("dir".into(), None)));
        assert!(ParsedPath::parse(&utf16("dir\\")).unwrap().trailing_separator);
        assert_eq!(parse("\\a"), Err(NtStatus::INVALID_PARAMETER));
        assert_eq!(parse("\\"), Err(NtStatus::INVALID_PARAMETER));
        for path in ["..", "a\\..", "..\\a", "a\\..\\b"] {
            assert_eq!(parse(path), Err(NtStatus::OBJECT_PATH_SYNTAX_BAD), "{path}");
        }
        for path in ["a\\\\b", "a\\.", ".", "a*", "a\\b?\\c", "a\\b/c", "a\\\\", "a:b\\c"] {
            assert_eq!(parse(path), Err(NtStatus::OBJECT_NAME_INVALID), "{path}");
        }
        let long = [0x61; 256];
        assert_eq!(ParsedPath::parse(&long), Err(NtStatus::OBJECT_NAME_INVALID));
        let mut path = [0x61; 40_000];
        path.iter_mut().skip(1).step_by(2).for_each(|unit| *unit = BACKSLASH);
        assert_eq!(ParsedPath::parse(&path), Err(NtStatus::NAME_TOO_LONG));
    }

    #[test]
    fn streams() {
        assert_eq!(parse("a:s"), Ok(("a".into(), Some("s".into()))));
        assert_eq!(parse("d\\a:s:$data"), Ok(("d\\a".into(), Some("s".into()))));
        assert_eq!(parse("a::$DATA"), Ok(("a".into(), None)));
        assert!(ParsedPath::parse(&utf16("a::$DATA")).unwrap().data_stream);
        assert_eq!(parse(":s"), Ok(("".into(), Some("s".into()))));
        for path in
            ["a:", "a::", "a:s:", "a:s:$X", "a:s:$DATA:x", "a:b*", "a:s\\", "d\\:s", "a::$INDEX_ALLOCATION"]
        {
            assert_eq!(parse(path), Err(NtStatus::OBJECT_NAME_INVALID), "{path}");
        }
    }

    #[test]
    fn short_names() {
        let short =
            |text: &str| short_name(&utf16(text)).map(|short| String::from_utf16(short.units()).unwrap());
        for name in ["A.TXT", "readme.md", "12345678.123", "x", ".", ".."] {
            assert_eq!(short(name), None, "{name}");
        }
        for name in [
            "long file name.text",
            "a.b.c",
            ".profile",
            "ümlaut",
            "123456789",
            "a.",
            " ",
            "+.+",
            "\u{1F600}.png",
        ] {
            let short = short(name).unwrap();
            assert!(is_short_name(&utf16(&short)), "{name} {short}");
            assert!(is_made_short_name(&utf16(&short.to_lowercase())), "{name} {short}");
            assert_eq!(short.split('.').next().unwrap().split('~').nth(1), Some("1"));
        }
        let long = short("Long File Name.text").unwrap();
        assert!(long.starts_with("LO") && long.ends_with("~1.TEX"), "{long}");
        assert_eq!(short("LONG FILE NAME.TEXT"), Some(long));
        for name in [
            "",
            "LO1234~1.",
            "LO1234~2",
            "LON123~1",
            "1234~1",
            "LO12345~1",
            "LO 234~1",
            "LO123G~1",
            "~1",
            "LO1234~1.TEXT",
        ] {
            assert!(!is_made_short_name(&utf16(name)), "{name}");
        }
        assert!(is_made_short_name(&utf16("L1234~1.T")));
    }
}
