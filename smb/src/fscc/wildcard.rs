//! Search patterns of a directory query (MS-FSCC 2.1.4.4, MS-FSA 2.1.4.4).

use alloc::vec::Vec;

use super::name::{MAXIMUM_COMPONENT, NameInvalid};
use super::upcase::{equal_names, upcase};

const DOT: u16 = b'.' as u16;
/// `*`: any characters, or none.
const STAR: u16 = b'*' as u16;
/// `?`: one character.
const QUESTION_MARK: u16 = b'?' as u16;
/// `<`: any characters, or none, but not the last dot of the name.
const DOS_STAR: u16 = b'<' as u16;
/// `>`: one character; none before a dot and at the end of the name.
const DOS_QUESTION_MARK: u16 = b'>' as u16;
/// `"`: a dot; nothing at the end of the name.
const DOS_DOT: u16 = b'"' as u16;

/// Whether the unit is one of `* ? < > "`.
pub const fn is_wildcard(unit: u16) -> bool {
    matches!(unit, STAR | QUESTION_MARK | DOS_STAR | DOS_QUESTION_MARK | DOS_DOT)
}

/// A search pattern, ready to be matched against many names without regard to case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    units: Vec<u16>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Everything,
    Literal,
    Wild,
}

/// Matching keeps a set of places in the pattern: one bit each, and one for its end.
const SET_WORDS: usize = (MAXIMUM_COMPONENT + 1).div_ceil(32);

/// A set of places in a pattern.
#[derive(Clone, Copy)]
struct Places([u32; SET_WORDS]);

impl Places {
    const NONE: Places = Places([0; SET_WORDS]);

    fn add(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 32) {
            *word |= 1 << (place % 32);
        }
    }

    fn contains(&self, place: usize) -> bool {
        self.0.get(place / 32).is_some_and(|word| word >> (place % 32) & 1 != 0)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

impl Pattern {
    /// Takes a pattern as it came: one component, 1 to 255 units, wildcards among characters that names may have. It may
    /// be `.` or `..`.
    pub fn new(units: &[u16]) -> Result<Pattern, NameInvalid> {
        if units.is_empty() || units.len() > MAXIMUM_COMPONENT {
            return Err(NameInvalid);
        }
        if !units.iter().all(|unit| super::name::is_allowed(*unit) || is_wildcard(*unit)) {
            return Err(NameInvalid);
        }
        let kind = match units {
            [STAR] => Kind::Everything,
            _ if units.iter().any(|unit| is_wildcard(*unit)) => Kind::Wild,
            _ => Kind::Literal,
        };
        Ok(Pattern { units: units.to_vec(), kind })
    }

    /// The name to look up instead of searching, when there is no wildcard.
    pub fn literal(&self) -> Option<&[u16]> {
        (self.kind == Kind::Literal).then_some(&self.units)
    }

    /// Whether every name matches.
    pub fn is_everything(&self) -> bool {
        self.kind == Kind::Everything
    }

    /// Whether 8.3 names that are made up are meant too: all of those have a tilde. Without this rule `*.htm` would match
    /// `page.html`, and every name would cost the making of another.
    pub fn has_tilde(&self) -> bool {
        self.units.contains(&u16::from(b'~'))
    }

    /// Whether `name` matches. Takes at most pattern length times name length steps, whatever the pattern.
    pub fn matches(&self, name: &[u16]) -> bool {
        match self.kind {
            Kind::Everything => true,
            Kind::Literal => equal_names(&self.units, name),
            Kind::Wild => self.matches_wild(name),
        }
    }

    /// Walks the name once and keeps all places of the pattern that may come next (as FsRtlIsNameInExpression does).
    fn matches_wild(&self, name: &[u16]) -> bool {
        let last_dot = name.iter().rposition(|unit| *unit == DOT);
        let mut places = Places::NONE;
        places.add(0);
        for (position, unit) in name.iter().enumerate() {
            let mut next = Places::NONE;
            let mut reached = places;
            for (place, wanted) in self.units.iter().enumerate() {
                if !reached.contains(place) {
                    continue;
                }
                match *wanted {
                    STAR => {
                        reached.add(place + 1);
                        next.add(place);
                    }
                    DOS_STAR => {
                        reached.add(place + 1);
                        if last_dot != Some(position) {
                            next.add(place);
                        }
                    }
                    DOS_QUESTION_MARK if *unit == DOT => reached.add(place + 1),
                    QUESTION_MARK | DOS_QUESTION_MARK => next.add(place + 1),
                    DOS_DOT if *unit == DOT => next.add(place + 1),
                    wanted if upcase(wanted) == upcase(*unit) => next.add(place + 1),
                    _ => {}
                }
            }
            places = next;
            if places.is_empty() {
                return false;
            }
        }
        // The rest of the pattern must be content with nothing.
        let rest = self
            .units
            .iter()
            .rposition(|unit| !matches!(*unit, STAR | DOS_STAR | DOS_QUESTION_MARK | DOS_DOT));
        let first = rest.map_or(0, |last| last + 1);
        (first..=self.units.len()).any(|place| places.contains(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    fn matches(pattern: &str, name: &str) -> bool {
        Pattern::new(&utf16(pattern)).unwrap().matches(&utf16(name))
    }

    #[test]
    fn stars_and_question_marks() {
        assert!(matches("*", "anything"));
        assert!(matches("**", "x"));
        assert!(matches("a*c", "ABBC"));
        assert!(matches("*.txt", "a.b.TXT"));
        assert!(!matches("*.txt", "a.txt.bak"));
        assert!(matches("?ö?", "xÖy"));
        assert!(!matches("??", "x"));
        assert!(!matches("?", "xy"));
        assert!(!matches("*.*", "nodot"));
        assert!(matches("*a*b*c*", "xxaxxbxxcxx"));
    }

    #[test]
    fn dos_forms() {
        // `*.` of DOS is `<`, `*.*` is `*`, `?` is `>`, `.` before a wildcard is `"`.
        assert!(matches("<", "name"));
        assert!(!matches("<.", "name"));
        assert!(matches("<\"", "name"));
        assert!(!matches("<\"", "name.ext"));
        assert!(matches("<.txt", "a.b.txt"));
        assert!(matches("<.b<", "a.b"));
        assert!(matches("a>>>>", "ab"));
        assert!(!matches("a>>>>", "abcdef"));
        assert!(matches("a>>>.txt", "ab.txt"));
        assert!(matches(">>>>\">>>", "ab.c"));
        assert!(matches("foo\"*", "foo"));
        assert!(matches("foo\"*", "foo.bar"));
        assert!(!matches("foo\"*", "foobar"));
    }

    #[test]
    fn literals_need_no_search() {
        let pattern = Pattern::new(&utf16("Name.txt")).unwrap();
        assert_eq!(pattern.literal(), Some(&utf16("Name.txt")[..]));
        assert!(pattern.matches(&utf16("nAME.TXT")));
        assert!(Pattern::new(&utf16("..")).unwrap().matches(&utf16("..")));
    }

    #[test]
    fn what_is_no_pattern() {
        for text in ["", "a\\b", "a/b", "a:b", "a|b", "a\0b"] {
            assert_eq!(Pattern::new(&utf16(text)), Err(NameInvalid), "{text:?}");
        }
        assert!(Pattern::new(&[STAR; 255]).is_ok());
        assert!(Pattern::new(&[STAR; 256]).is_err());
    }

    #[test]
    fn the_worst_pattern_is_bounded() {
        let mut units = [STAR; 255];
        units[254] = 0x62;
        let pattern = Pattern::new(&units).unwrap();
        for _ in 0..100 {
            assert!(!pattern.matches(&[0x61; 255]));
        }
    }

    /// Against a plain recursive reading of the rules.
    #[test]
    fn agrees_with_recursion() {
        fn recursive(pattern: &[u16], name: &[u16]) -> bool {
            let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
            let consume = |rest: &[u16]| name.split_first().is_some_and(|(_, name)| recursive(rest, name));
            match *first {
                STAR => recursive(rest, name) || consume(pattern),
                DOS_STAR => {
                    let last_dot = name.first() == Some(&DOT) && !name[1..].contains(&DOT);
                    recursive(rest, name) || (!last_dot && consume(pattern))
                }
                QUESTION_MARK => consume(rest),
                DOS_QUESTION_MARK if matches!(name.first(), None | Some(&DOT)) => recursive(rest, name),
                DOS_QUESTION_MARK => consume(rest),
                DOS_DOT if name.is_empty() => recursive(rest, name),
                DOS_DOT => name[0] == DOT && consume(rest),
                unit => name.first() == Some(&unit) && consume(rest),
            }
        }
        let alphabet = utf16("a.*?<>\"");
        let mut state = 1u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) as usize % below
        };
        let mut hits = 0;
        for _ in 0..20_000 {
            let pattern: Vec<u16> = (0..random(6) + 1).map(|_| alphabet[random(7)]).collect();
            let name: Vec<u16> = (0..random(6) + 1).map(|_| alphabet[random(2)]).collect();
            let expected = recursive(&pattern, &name);
            hits += usize::from(expected);
            assert_eq!(Pattern::new(&pattern).unwrap().matches(&name), expected, "{pattern:?} {name:?}");
        }
        assert!(hits > 1000);
    }
}
