//! How a case ended.

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// As it should.
    Passed,
    /// Not as it should.
    Failed,
    /// The case itself said that it does not apply.
    Skipped,
    /// Its time was over.
    Unfinished,
    /// As the machine's speed would have it: that is not counted.
    Unsteady,
}

impl Outcome {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Unfinished => "unfinished",
            Self::Unsteady => "unsteady",
        }
    }
}

/// Takes out of a complaint what differs from run to run: places in sources, times, long numbers, the bytes of an array,
/// names made up in a directory of tests.
pub fn normalised(complaint: &str) -> String {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let mut words: Vec<String> = Vec::new();
    let mut rest = complaint.split_whitespace().peekable();
    while let Some(word) = rest.next() {
        let bare = word.trim_start_matches(['(', '[']);
        if bare.starts_with("../") && bare.contains(".c:") {
            continue;
        }
        let next = rest.peek().copied().unwrap_or("");
        if DAYS.contains(&bare) && next.len() == 3 {
            // Month, day, time, year.
            for _ in 0..4 {
                rest.next();
            }
            words.push("TIME".into());
            continue;
        }
        if bare == "array('B'," {
            words.push("an array of bytes".into());
            break;
        }
        match word.split_once("_test\\") {
            Some((directory, _)) => words.push(format!("{directory}_test\\NAME")),
            None => words.push(plain(word)),
        }
    }
    words.join(" ")
}

/// Numbers of more than four digits (hexadecimal ones, too) become N.
fn plain(word: &str) -> String {
    let mut text = String::new();
    let mut run = String::new();
    let flush = |run: &mut String, text: &mut String| {
        let digits = run.strip_prefix("0x").or(run.strip_prefix("0X"));
        let number = digits.unwrap_or(run);
        let hexadecimal = digits.is_some() && number.len() > 4;
        let long = number.len() > 4 && number.chars().all(|letter| letter.is_ascii_digit());
        text.push_str(if hexadecimal || long { "N" } else { run });
        run.clear();
    };
    for letter in word.chars() {
        if letter.is_ascii_alphanumeric() {
            run.push(letter);
        } else {
            flush(&mut run, &mut text);
            text.push(letter);
        }
    }
    flush(&mut run, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_do_not_change_from_run_to_run() {
        assert_eq!(
            normalised("(../../source4/torture/smb2/acls.c:157) Incorrect status A - should be B"),
            "Incorrect status A - should be B"
        );
        assert_eq!(
            normalised(
                "write_time2 was Sun Nov 22 14:33:09 2026 UTC, expected Sun Nov 22 14:33:06 2026 UTC: x"
            ),
            "write_time2 was TIME UTC, expected TIME UTC: x"
        );
        assert_eq!(
            normalised("was 134398315791746410 (0x1DD7A8E5F2D856A), expected 0x1000"),
            "was N (N), expected 0x1000"
        );
        assert_eq!(normalised("AssertionError: array('B', [3, 0, 141"), "AssertionError: an array of bytes");
        assert_eq!(normalised("failed with mangle_test\\DImUP7oEH0Rm"), "failed with mangle_test\\NAME");
    }
}
