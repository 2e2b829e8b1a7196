//! The files of `tests/conformance`.

use crate::settings;

/// A case, and how it ended against Linux ksmbd on the same board.
#[derive(Clone, Debug)]
pub struct Case {
    /// smbtorture's name for it.
    pub name: String,
    /// `success`, `failure`, `skip`, `unfinished`; `-` where it was not run.
    pub rival: String,
}

/// The lines of a file that are neither comments nor blank.
fn lines(name: &str) -> Result<Vec<String>, String> {
    let path = settings::root().join("tests").join("conformance").join(name);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(String::from).collect())
}

fn pairs(name: &str) -> Result<Vec<(String, String)>, String> {
    let split = |line: String| {
        line.split_once(' ').map_or((line.clone(), String::new()), |(a, b)| (a.into(), b.trim().into()))
    };
    Ok(lines(name)?.into_iter().map(split).collect())
}

/// smbtorture's cases.
pub fn cases() -> Result<Vec<Case>, String> {
    Ok(pairs("cases.txt")?.into_iter().map(|(rival, name)| Case { name, rival }).collect())
}

/// The cases that must pass.
pub fn expected() -> Result<Vec<String>, String> {
    lines("expected.txt")
}

/// The cases whose end says nothing of the server, and why.
pub fn unsteady() -> Result<Vec<(String, String)>, String> {
    pairs("unsteady.txt")
}

/// Values for the starts of names: what stands at the longest start of a name is the name's.
#[derive(Debug)]
pub struct ByName(Vec<(String, String)>);

impl ByName {
    /// Why cases fail or are skipped.
    pub fn reasons() -> Result<Self, String> {
        pairs("reasons.txt").map(Self)
    }

    /// What cases are run with.
    pub fn options() -> Result<Self, String> {
        pairs("options.txt").map(Self)
    }

    /// The value for `name`.
    pub fn find(&self, name: &str) -> Option<&str> {
        let fitting = self.0.iter().filter(|(start, _)| name.starts_with(start.as_str()));
        fitting.max_by_key(|(start, _)| start.len()).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_fit_each_other() {
        let cases = cases().unwrap();
        assert!(cases.len() > 400 && cases.iter().all(|case| case.name.starts_with("smb2.")));
        let known = |name: &String| cases.iter().any(|case| case.name == *name) || !name.starts_with("smb2.");
        assert!(expected().unwrap().iter().all(known));
        assert!(ByName::reasons().unwrap().0.iter().all(|(_, reason)| !reason.is_empty()));
        let unsteady = unsteady().unwrap();
        assert!(unsteady.len() <= 5, "a handful at most");
        for (name, reason) in &unsteady {
            assert!(known(name) && !reason.is_empty() && !expected().unwrap().contains(name), "{name}");
        }
    }

    #[test]
    fn the_longest_start_counts() {
        let values = ByName(vec![("smb2.a".into(), "1".into()), ("smb2.a.b".into(), "2".into())]);
        assert_eq!(values.find("smb2.a.bc"), Some("2"));
        assert_eq!(values.find("smb2.a.c"), Some("1"));
        assert_eq!(values.find("smb2.b"), None);
    }
}
