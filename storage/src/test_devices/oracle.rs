//! What must be there after a power cut, told from the diaries of those who worked.
//!
//! - Names: those of some moment of each client, not before its last call that is known to be safe, not after the last
//!   it began. So each rename, removal and creation is there whole or not at all.
//! - Safe is every call that was answered before a FLUSH (or a write-through) of anybody was begun that was answered in time;
//!   or before a moment that the caller names (the timer's last round).
//! - A file's content: at each byte what the file had there at some moment from its last FLUSH, or its last CLOSE before
//!   that named moment, to the cut; its size likewise.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::workload::{Action, Answer, Diary, Failure, Files, Names, UNIT, fill, rename};

/// What was found below a client's root: files with their content, directories with `None`.
pub type Found = BTreeMap<String, Option<Vec<u8>>>;

/// Reads all that is below `root` and is `wanted`.
pub fn look<F: Files>(files: &mut F, root: &str, wanted: &dyn Fn(&str) -> bool) -> Answer<Found> {
    let full = |path: &str| match (root.is_empty(), path.is_empty()) {
        (true, _) => String::from(path),
        (false, true) => String::from(root),
        (false, false) => format!("{root}\\{path}"),
    };
    let mut found = Found::new();
    let mut todo = alloc::vec![String::new()];
    while let Some(directory) = todo.pop() {
        for (name, is_directory) in files.list(&full(&directory))? {
            let path = if directory.is_empty() { name } else { format!("{directory}\\{name}") };
            if !wanted(&path) {
                continue;
            }
            if is_directory {
                found.insert(path.clone(), None);
                todo.push(path);
            } else {
                let content = files.content(&full(&path))?;
                found.insert(path, Some(content));
            }
        }
        if found.len() > 1_000_000 {
            return Err(Failure::Refused("directories without end".into()));
        }
    }
    Ok(found)
}

/// What a check covered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// Files found.
    pub files: u64,
    /// Calls that had to be there.
    pub safe_calls: u64,
    /// Calls that might be there or not.
    pub open_calls: u64,
    /// Bytes of files all of whose bytes were promised.
    pub promised_bytes: u64,
}

/// A file's content at a moment: runs of generations without gaps; generation 0 is zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    /// (end, generation), rising.
    runs: Vec<(u64, u32)>,
    /// Since the file was last made whole, it grew by zeros from this size on, which may happen in steps.
    grew_from: Option<u64>,
    /// A call was refused in its middle: anything may be there.
    unknown: bool,
}

impl Content {
    fn size(&self) -> u64 {
        self.runs.last().map_or(0, |run| run.0)
    }

    fn resize(&mut self, size: u64) {
        let old = self.size();
        if size > old {
            self.grew_from = Some(self.grew_from.unwrap_or(old).min(old));
            self.runs.push((size, 0));
        } else if size < old {
            let last = size.checked_sub(1).map(|last| self.generation_at(last));
            self.runs.retain(|run| run.0 < size);
            self.runs.extend(last.map(|generation| (size, generation)));
        }
    }

    fn generation_at(&self, offset: u64) -> u32 {
        self.runs.iter().find(|run| run.0 > offset).map_or(0, |run| run.1)
    }

    fn write(&mut self, offset: u64, length: u64, generation: u32) {
        let end = offset + length;
        if offset > self.size() {
            self.resize(offset);
        }
        let mut runs = Vec::with_capacity(self.runs.len() + 2);
        let mut start = 0;
        for &(stop, old) in &self.runs {
            // What of it lies before the write, and what behind.
            if start < offset {
                runs.push((stop.min(offset), old));
            }
            if stop > end {
                if start <= end && runs.last().is_none_or(|run| run.0 < end) {
                    runs.push((end, generation));
                }
                runs.push((stop, old));
            }
            start = stop;
        }
        if runs.last().is_none_or(|run| run.0 < end) {
            runs.push((end, generation));
        }
        self.runs = runs;
    }

    fn bytes(&self, file: u32) -> Vec<u8> {
        let mut bytes = alloc::vec![0; self.size() as usize];
        let mut start = 0;
        for &(end, generation) in &self.runs {
            if generation != 0 {
                fill(file, generation, start, &mut bytes[start as usize..end as usize]);
            }
            start = end;
        }
        bytes
    }
}

/// The names and contents of a client after its calls so far.
#[derive(Default)]
struct Replay {
    names: Names,
    contents: BTreeMap<u32, Content>,
}

impl Replay {
    fn apply(&mut self, action: &Action, refused: bool) {
        match action {
            Action::Write { file, .. } | Action::Resize(file, _) if refused => {
                self.contents.entry(*file).or_default().unknown = true;
            }
            _ if refused => {}
            Action::Create(name, file) => {
                self.names.insert(name.clone(), Some(*file));
                self.contents.insert(*file, Content::default());
            }
            Action::MakeDirectory(name) => {
                self.names.insert(name.clone(), None);
            }
            Action::Rename(from, to) => {
                self.names.remove(to);
                rename(&mut self.names, from, to);
            }
            Action::Remove(name) => {
                self.names.remove(name);
            }
            Action::Write { file, offset, length, generation, through } => {
                let content = self.contents.entry(*file).or_default();
                content.write(*offset, *length, *generation);
                if *through {
                    content.grew_from = None;
                }
            }
            Action::Resize(file, size) => self.contents.entry(*file).or_default().resize(*size),
            Action::Flush(file) | Action::Close(file) => {
                self.contents.entry(*file).or_default().grew_from = None;
            }
        }
    }
}

/// Judges what was `found` (one for each diary) after a power cut at the moment `cut`, when what was answered up to
/// `settled` was safe anyway.
pub fn judge(diaries: &[Diary], found: &[Found], cut: u64, settled: u64) -> Result<Covered, String> {
    let mut safe = settled;
    for step in diaries.iter().flat_map(|diary| &diary.steps) {
        let flushes = matches!(step.action, Action::Flush(_) | Action::Write { through: true, .. });
        if flushes && !step.refused && step.done.is_some_and(|done| done <= cut) {
            safe = safe.max(step.begun);
        }
    }
    let mut covered = Covered::default();
    for (diary, found) in diaries.iter().zip(found) {
        judge_one(diary, found, cut, settled, safe, &mut covered)
            .map_err(|text| format!("below \"{}\": {text}", diary.root))?;
    }
    Ok(covered)
}

fn judge_one(
    diary: &Diary,
    found: &Found,
    cut: u64,
    settled: u64,
    safe: u64,
    covered: &mut Covered,
) -> Result<(), String> {
    let by = |done: Option<u64>, moment: u64| done.is_some_and(|done| done <= moment);
    let first = diary.steps.iter().take_while(|step| by(step.done, safe)).count();
    let last = diary.steps.iter().take_while(|step| step.begun <= cut).count();
    let first = first.min(last);
    covered.safe_calls += first as u64;
    covered.open_calls += (last - first) as u64;
    // From which call on each file's content counts.
    let mut durable: BTreeMap<u32, usize> = BTreeMap::new();
    for (number, step) in diary.steps.iter().take(last).enumerate() {
        let (file, made_safe) = match step.action {
            Action::Flush(file) | Action::Write { file, through: true, .. } => (file, by(step.done, cut)),
            Action::Close(file) => (file, by(step.done, settled)),
            _ => continue,
        };
        if made_safe && !step.refused {
            durable.insert(file, number + 1);
        }
    }
    let mut replay = Replay::default();
    let mut versions: BTreeMap<u32, Vec<Content>> = BTreeMap::new();
    // Moments that have the names found: with which files behind them.
    let mut moments: Vec<Names> = Vec::new();
    for number in 0..=last {
        if number >= first && same_names(&replay.names, found) && moments.last() != Some(&replay.names) {
            moments.push(replay.names.clone());
        }
        for (file, content) in &replay.contents {
            if number >= durable.get(file).copied().unwrap_or(0) {
                let versions = versions.entry(*file).or_default();
                if versions.last() != Some(content) {
                    versions.push(content.clone());
                }
            }
        }
        if let Some(step) = diary.steps.get(number).filter(|_| number < last) {
            replay.apply(&step.action, step.refused);
        }
    }
    let mut result = Err(format!(
        "the names are of no moment from call {first} to call {last}\n{}",
        nearest(diary, found, first, last)
    ));
    for names in &moments {
        result = contents_fit(names, &versions, found);
        if result.is_ok() {
            break;
        }
    }
    result.map_err(|text| {
        format!("{text}\ncalls {first} to {last} of {}:{}", diary.steps.len(), tail(diary, first, last))
    })?;
    covered.files += found.values().filter(|content| content.is_some()).count() as u64;
    for (path, content) in found {
        let file = moments.first().and_then(|names| names.get(path).copied().flatten());
        if let (Some(content), Some(file)) = (content, file)
            && versions.get(&file).is_some_and(|versions| versions.len() == 1)
        {
            covered.promised_bytes += content.len() as u64;
        }
    }
    Ok(())
}

fn same_names(names: &Names, found: &Found) -> bool {
    names.len() == found.len()
        && names
            .iter()
            .zip(found)
            .all(|(name, found)| name.0 == found.0 && name.1.is_some() == found.1.is_some())
}

/// Each file has a content that it may have.
fn contents_fit(names: &Names, versions: &BTreeMap<u32, Vec<Content>>, found: &Found) -> Result<(), String> {
    for (path, file) in names {
        let (Some(file), Some(Some(content))) = (file, found.get(path)) else { continue };
        let Some(versions) = versions.get(file) else { return Err(format!("\"{path}\": no such file yet")) };
        content_fits(*file, versions, content).map_err(|text| format!("\"{path}\" (file {file}): {text}"))?;
    }
    Ok(())
}

fn content_fits(file: u32, versions: &[Content], found: &[u8]) -> Result<(), String> {
    if versions.iter().any(|version| version.unknown) {
        return Ok(());
    }
    let size = found.len() as u64;
    let fits = |version: &Content| {
        version.size() == size
            || version.grew_from.is_some_and(|from| (from..=version.size()).contains(&size))
    };
    if !versions.iter().any(fits) {
        let sizes: Vec<u64> = versions.iter().map(Content::size).collect();
        return Err(format!("{size} bytes; it may have had {sizes:?}"));
    }
    let all: Vec<Vec<u8>> = versions.iter().map(|version| version.bytes(file)).collect();
    if all.iter().any(|bytes| bytes == found) {
        return Ok(());
    }
    let wrong = found
        .iter()
        .enumerate()
        .find(|(offset, byte)| !all.iter().any(|bytes| bytes.get(*offset) == Some(byte)));
    match wrong {
        None => Ok(()),
        Some((offset, _)) => {
            let generations: BTreeSet<u32> =
                versions.iter().map(|version| version.generation_at(offset as u64)).collect();
            Err(format!(
                "byte {offset} of {size} is {}; it may be of generations {generations:?}",
                describe(found, offset)
            ))
        }
    }
}

/// Whose byte that is, by its own word.
fn describe(found: &[u8], offset: usize) -> String {
    let start = offset - offset % UNIT as usize;
    let Some(unit) = found.get(start..start + UNIT as usize) else {
        return String::from("of the last, partial unit");
    };
    if unit.iter().all(|&byte| byte == 0) {
        return String::from("zero");
    }
    let field = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&unit[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    let mut whole = [0; UNIT as usize];
    fill(field(0), field(4), u64::from(field(8)) * UNIT, &mut whole);
    if whole == unit {
        format!("of file {}, generation {}, offset {}", field(0), field(4), u64::from(field(8)) * UNIT)
    } else {
        format!("of nothing whole: {unit:02x?}")
    }
}

/// What distinguishes the names found from those of the first and last possible moment.
fn nearest(diary: &Diary, found: &Found, first: usize, last: usize) -> String {
    let mut text = String::new();
    let mut replay = Replay::default();
    for number in 0..=last {
        if number == first || number == last {
            let missing: Vec<&String> =
                replay.names.keys().filter(|name| !found.contains_key(*name)).collect();
            let more: Vec<&String> = found.keys().filter(|name| !replay.names.contains_key(*name)).collect();
            text.push_str(&format!("at call {number}: missing {missing:?}, too many {more:?}\n"));
        }
        if let Some(step) = diary.steps.get(number) {
            replay.apply(&step.action, step.refused);
        }
    }
    text
}

/// The calls in question.
fn tail(diary: &Diary, first: usize, last: usize) -> String {
    let mut text = String::new();
    let from = first.saturating_sub(10).max(last.saturating_sub(60));
    for (number, step) in diary.steps.iter().enumerate().take(last).skip(from) {
        let refused = if step.refused { " refused" } else { "" };
        text.push_str(&format!("\n  {number}: {:?}{refused} [{}..{:?}]", step.action, step.begun, step.done));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_devices::workload::Step;

    fn diary(actions: &[Action]) -> Diary {
        let steps = actions.iter().enumerate().map(|(number, action)| Step {
            begun: number as u64 * 10,
            done: Some(number as u64 * 10 + 5),
            refused: false,
            action: action.clone(),
        });
        Diary { root: String::new(), steps: steps.collect() }
    }

    fn write(file: u32, offset: u64, length: u64, generation: u32) -> Action {
        Action::Write { file, offset, length, generation, through: false }
    }

    fn bytes(file: u32, generation: u32, range: core::ops::Range<u64>) -> Vec<u8> {
        let mut bytes = alloc::vec![0; (range.end - range.start) as usize];
        fill(file, generation, range.start, &mut bytes);
        bytes
    }

    fn one(path: &str, content: Vec<u8>) -> Found {
        [(path.into(), Some(content))].into()
    }

    #[test]
    fn contents_follow_the_calls() {
        let mut content = Content::default();
        content.write(0, 1000, 1);
        content.write(500, 100, 2);
        content.write(2000, 10, 3);
        content.resize(1500);
        content.resize(1600);
        assert_eq!(content.runs, [(500, 1), (600, 2), (1000, 1), (1500, 0), (1600, 0)]);
        content.resize(550);
        assert_eq!(content.runs, [(500, 1), (550, 2)]);
        content.write(0, 550, 4);
        assert_eq!(content.runs, [(550, 4)]);
        content.write(10, 700, 5);
        assert_eq!(content.runs, [(10, 4), (710, 5)]);
    }

    #[test]
    fn what_was_flushed_has_to_be_there() {
        let diaries = [diary(&[Action::Create("a".into(), 7), write(7, 0, 600, 1), Action::Flush(7)])];
        let whole = one("a", bytes(7, 1, 0..600));
        assert_eq!(
            judge(&diaries, core::slice::from_ref(&whole), 100, 0).map(|covered| covered.promised_bytes),
            Ok(600)
        );
        let mut torn = bytes(7, 1, 0..600);
        torn[512..].fill(0);
        let foreign = one("a", bytes(8, 1, 0..600));
        for bad in [one("a", torn), one("a", bytes(7, 1, 0..599)), foreign, Found::new()] {
            assert!(judge(&diaries, core::slice::from_ref(&bad), 100, 0).is_err());
            // Before the flush was answered only what the file never had is wrong.
            let loose = judge(&diaries, core::slice::from_ref(&bad), 22, 0);
            assert_eq!(loose.is_err(), !bad.is_empty(), "{loose:?}");
        }
        assert!(judge(&diaries, &[whole], 22, 0).is_ok());
    }

    #[test]
    fn a_flush_of_anything_makes_answered_names_safe() {
        let rename = Action::Rename("a".into(), "b".into());
        let mut diaries = [
            diary(&[Action::Create("a".into(), 1), rename]),
            diary(&[Action::Create("x".into(), 2), Action::Flush(2)]),
        ];
        // The flush was begun at 10, before the rename was answered: either name.
        let other = one("x", alloc::vec![]);
        for name in ["a", "b"] {
            assert!(judge(&diaries, &[one(name, alloc::vec![]), other.clone()], 100, 0).is_ok());
        }
        diaries[1].steps[1].begun = 20;
        diaries[1].steps[1].done = Some(25);
        assert!(judge(&diaries, &[one("a", alloc::vec![]), other.clone()], 100, 0).is_err());
        assert!(judge(&diaries, &[one("b", alloc::vec![]), other], 100, 0).is_ok());
        // Half a rename is none.
        let both: Found = [("a".into(), Some(alloc::vec![])), ("b".into(), Some(alloc::vec![]))].into();
        assert!(judge(&diaries[..1], &[both], 100, 0).is_err());
    }

    #[test]
    fn stale_generations_are_known() {
        let diaries = [diary(&[
            Action::Create("a".into(), 1),
            write(1, 0, 1024, 1),
            write(1, 0, 1024, 2),
            Action::Flush(1),
            write(1, 512, 512, 3),
        ])];
        let mixed = |first: u32, second: u32| {
            let mut content = bytes(1, first, 0..1024);
            content[512..].copy_from_slice(&bytes(1, second, 512..1024));
            one("a", content)
        };
        assert!(judge(&diaries, &[mixed(2, 3)], 100, 0).is_ok());
        assert!(judge(&diaries, &[mixed(2, 2)], 100, 0).is_ok());
        assert!(judge(&diaries, &[mixed(2, 1)], 100, 0).is_err());
        assert!(judge(&diaries, &[mixed(1, 3)], 100, 0).is_err());
    }
}
